import { describe, expect, test } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { MIN_PIECE_SIZE, manifestOf } from '../../common/merkle.ts'
import { PieceAssembler } from './piece-assembler.ts'
import { Slots } from './slots.ts'
import { patternOf } from './transfer.fixture.ts'
import { Watchdog } from './watchdog.ts'

const PIECE = MIN_PIECE_SIZE
const manifest = manifestOf(patternOf(3 * PIECE + 100))
const never = new AbortController().signal

describe('the frames of a provider', () => {
  const frame = (piece: number, offset: number, length: number) => ({
    piece,
    offset,
    data: new Uint8Array(length),
    simulated: 0,
  })
  function expecting(...pieces: number[]) {
    const assembler = new PieceAssembler(manifest, false)
    for (const piece of pieces) assembler.want({ add: [piece, 1], credit: 1 })
    return assembler
  }

  test('make a piece when they are contiguous and whole', () => {
    const assembler = expecting(2, 3)
    expect(assembler.add(frame(2, 0, PIECE / 2))).toEqual({ begun: true, whole: undefined })
    expect(assembler.add(frame(2, PIECE / 2, PIECE / 2))).toMatchObject({
      begun: false,
      whole: { index: 2, length: PIECE },
    })
    expect(assembler.add(frame(3, 0, 100))).toMatchObject({ begun: true, whole: { index: 3, length: 100 } })
  })

  test('may come in the order that the provider chooses', () => {
    const assembler = expecting(0, 1, 2)
    for (const piece of [2, 0, 1]) expect(assembler.add(frame(piece, 0, PIECE)).whole?.index).toBe(piece)
  })

  test('of a piece that was taken back may still come, but once', () => {
    const assembler = expecting(0, 1)
    assembler.want({ remove: [0, 1] })
    expect(assembler.add(frame(0, 0, PIECE)).whole?.index).toBe(0)
    expect(() => assembler.add(frame(0, 0, PIECE))).toThrow(/nobody asked/)
  })

  test('of a piece that was wanted again while it was on its way may come as often as it was wanted', () => {
    const assembler = expecting(0)
    assembler.want({ remove: [0, 1] })
    assembler.want({ add: [0, 1], credit: 1 })
    for (let i = 0; i < 2; i++) expect(assembler.add(frame(0, 0, PIECE)).whole?.index).toBe(0)
    expect(() => assembler.add(frame(0, 0, PIECE))).toThrow(/nobody asked/)
  })

  test('without credit are a fault', () => {
    const assembler = new PieceAssembler(manifest, false)
    assembler.want({ add: [0, 4], credit: 1 })
    assembler.add(frame(3, 0, 100))
    expect(() => assembler.add(frame(0, 0, PIECE))).toThrow(/before it was its turn/)
  })

  test('of a piece that is given up are followed by another piece', () => {
    const assembler = expecting(0, 1)
    assembler.add(frame(0, 0, LEAF(1)))
    assembler.want({ remove: [0, 1] })
    assembler.abandon(0)
    expect(assembler.add(frame(1, 0, PIECE)).whole?.index).toBe(1)
    expect(() => assembler.abandon(1)).toThrow(/had not begun/)
  })

  test('of a piece that is given up without having been taken back are a fault', () => {
    const assembler = expecting(0, 1)
    assembler.want({ remove: [0, 1] })
    assembler.add(frame(0, 0, LEAF(1)))
    assembler.abandon(0)
    assembler.want({ add: [0, 1], credit: 1 })
    assembler.add(frame(0, 0, LEAF(1)))
    expect(() => assembler.abandon(0)).toThrow(/not taken back/)
  })

  test.each([
    ['a piece that nobody asked for', [], frame(0, 0, PIECE), /nobody asked/],
    ['a piece beyond the end', [0], frame(9, 0, 100), /nobody asked/],
    ['a hole', [0], frame(0, LEAF(1), LEAF(1)), /offset/],
    ['more than the piece holds', [3], frame(3, 0, 101), /more of piece 3/],
    ['no bytes', [0], frame(0, 0, 0), /empty frame/],
    ['a simulation among bytes', [0], { ...frame(0, 0, 16), simulated: 5 }, /simulated/],
  ])('with %s are a fault', (_, pieces, bad, message) => {
    expect(() => expecting(...pieces).add(bad)).toThrow(message)
  })

  test('that overlap are a fault', () => {
    const assembler = expecting(0)
    assembler.add(frame(0, 0, LEAF(4)))
    expect(() => assembler.add(frame(0, LEAF(2), LEAF(4)))).toThrow(/offset/)
  })

  test('cut within a leaf are a fault, so that a piece has few parts', () => {
    const assembler = expecting(0)
    assembler.add(frame(0, 0, 1))
    expect(() => assembler.add(frame(0, 1, 1))).toThrow(/offset/)
  })

  test('with bytes are a fault in a simulation', () => {
    const assembler = new PieceAssembler(manifest, true)
    assembler.want({ add: [0, 1], credit: 1 })
    expect(() => assembler.add(frame(0, 0, 16))).toThrow(/simulated/)
  })
})

function LEAF(n: number): number {
  return n * 16 * 1024
}

describe('slots', () => {
  test('are given in the order in which they were asked for', async () => {
    const slots = new Slots(1)
    const first = await slots.acquire(never)
    const order: number[] = []
    const others = [1, 2, 3].map((n) =>
      slots.acquire(never).then((slot) => {
        order.push(n)
        slot.release()
      }),
    )
    expect(slots.contended).toBe(true)
    first.release()
    await Promise.all(others)
    expect(order).toEqual([1, 2, 3])
  })

  test('skip whoever gave up waiting', async () => {
    const slots = new Slots(1)
    const first = await slots.acquire(never)
    const leaving = new AbortController()
    const gone = slots.acquire(leaving.signal)
    const next = slots.acquire(never)
    leaving.abort()
    await expect(gone).rejects.toMatchObject({ code: 'cancelled' })
    first.release()
    expect(await next).toBeDefined()
  })

  test('are not multiplied by a second release', async () => {
    const slots = new Slots(1)
    const slot = slots.tryAcquire()
    slot?.release()
    slot?.release()
    expect(slots.tryAcquire()).toBeDefined()
    expect(slots.tryAcquire()).toBeUndefined()
  })
})

describe('a watchdog', () => {
  test('whose clock is set back does not wait for the old time to come again', async () => {
    const clock = new ManualClock()
    let setBack = 0
    let barks = 0
    const skewed = { now: () => clock.now() - setBack, sleep: clock.sleep.bind(clock) }
    const dog = new Watchdog(skewed, 1000, () => barks++)
    dog.begin()
    setBack = 3_600_000
    for (let i = 0; i < 5; i++) await settle(() => clock.advance(600))
    expect(barks).toBe(1)
    await dog.stop()
  })

  test('barks once at a wait that is too long, and not at progress', async () => {
    const clock = new ManualClock()
    let barks = 0
    const dog = new Watchdog(clock, 1000, () => barks++)
    dog.begin()
    await settle(() => clock.advance(900))
    dog.begin()
    await settle(() => clock.advance(900))
    expect(barks).toBe(0)
    await settle(() => clock.advance(100))
    expect(barks).toBe(1)
    await settle(() => clock.advance(5000))
    expect(barks).toBe(1)
    await dog.stop()
  })

  test('is silent where nobody waits', async () => {
    const clock = new ManualClock()
    let barks = 0
    const dog = new Watchdog(clock, 1000, () => barks++)
    dog.begin()
    dog.end()
    await settle(() => clock.advance(3000))
    expect(barks).toBe(0)
    await dog.stop()
  })

  /** Lets the watchdog's own loop run after the clock moved. */
  async function settle(move: () => void): Promise<void> {
    move()
    await new Promise((resolve) => setImmediate(resolve))
  }
})
