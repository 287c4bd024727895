import { describe, expect, it, onTestFinished } from 'vitest'
import { ManualClock } from '../clock.ts'
import { NetworkError } from '../errors.ts'
import { silentLog } from '../log.ts'
import type { NetworkEvent } from './event.ts'
import { draft, foreign } from './log.contract.ts'
import { Publisher } from './publisher.ts'
import { SqliteEventLog } from './sqlite-log.ts'

/** A bus that does what the test says, and else takes everything. */
class TestBus {
  readonly batches: NetworkEvent[][] = []
  calls = 0
  refuse: (events: readonly NetworkEvent[], signal: AbortSignal) => void | Promise<void> = () => {}

  async publish(events: readonly NetworkEvent[], signal: AbortSignal): Promise<void> {
    this.calls++
    await this.refuse(events, signal)
    this.batches.push([...events])
  }

  get numbers(): number[] {
    return this.batches.flat().map(({ seq }) => seq)
  }
}

async function setUp() {
  const clock = new ManualClock()
  const log = SqliteEventLog.open(':memory:', { origin: 'P1', clock })
  const bus = new TestBus()
  const publisher = new Publisher({ log, bus, clock, logger: silentLog })
  onTestFinished(() => publisher.stop())
  const publish = (count: number) => log.publish(Array.from({ length: count }, (_, index) => draft(index)))
  const unsent = async () => (await log.backlog()).unsent
  return { clock, log, bus, publisher, publish, unsent }
}

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)
const away = () => {
  throw new NetworkError('unavailable', 'nobody is there')
}

describe('a publisher', () => {
  it('sends what is there and what comes, in order, in batches that are not too large', async () => {
    const { bus, publisher, publish, unsent } = await setUp()
    await publish(1200)
    await publisher.start()
    await expect.poll(unsent).toBe(0)
    await publish(1)
    await expect.poll(() => bus.numbers).toEqual(range(1, 1201))
    expect(bus.batches.map(({ length }) => length)).toEqual([500, 500, 200, 1])
    await expect.poll(() => publisher.sent).toBe(1201)
  })

  it('stops also while its log fails, and leaves out what is refused once that works again', async () => {
    const { log, bus, publisher, publish, unsent } = await setUp()
    const [event] = await publish(1)
    bus.refuse = () => {
      throw new NetworkError('invalid', 'never', { id: event!.id })
    }
    const works = log.sent
    log.sent = async () => {
      throw new NetworkError('unavailable', 'the disk is full')
    }
    await publisher.start()
    await expect.poll(() => bus.calls).toBe(1)
    await publisher.stop()
    expect([publisher.refused, await unsent()]).toEqual([0, 1])
    log.sent = works
    await publisher.tick(new AbortController().signal)
    expect([publisher.refused, await unsent()]).toEqual([1, 0])
  })

  it('does not stir for the events of others', async () => {
    const { bus, publisher, log, publish } = await setUp()
    await publisher.start()
    await log.keep([foreign(1)])
    await publish(1)
    await expect.poll(() => bus.batches).toHaveLength(1)
    expect(bus.calls).toBe(1)
  })

  it('waits longer and longer while the bus is away, and goes on in order when it is back', async () => {
    const { bus, publisher, publish, clock, unsent } = await setUp()
    bus.refuse = away
    await publish(2)
    await publisher.start()
    for (const [attempt, pause] of [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000].entries()) {
      await expect.poll(() => bus.calls).toBe(attempt + 1)
      await publish(1)
      clock.advance(pause * 0.85)
      expect(bus.calls).toBe(attempt + 1)
      const due = () => {
        clock.advance(pause * 0.3)
        return bus.calls
      }
      await expect.poll(due).toBe(attempt + 2)
    }
    bus.refuse = () => {}
    publisher.nudge()
    await expect.poll(unsent).toBe(0)
    expect(bus.numbers).toEqual(range(1, 10))
  })

  it('waits as long as the bus says', async () => {
    const { bus, publisher, publish, clock } = await setUp()
    bus.refuse = () => {
      throw new NetworkError('limited', 'slower', { retry_ms: 5000 })
    }
    await publish(1)
    await publisher.start()
    await expect.poll(() => bus.calls).toBe(1)
    bus.refuse = () => {}
    clock.advance(4000)
    expect(bus.calls).toBe(1)
    const due = () => {
      clock.advance(1500)
      return bus.calls
    }
    await expect.poll(due).toBe(2)
  })

  it.each([
    ['named', true],
    ['not named', false],
  ])('leaves out an event that the bus will never take, %s, and sends all others', async (_, named) => {
    const { bus, publisher, publish, unsent } = await setUp()
    bus.refuse = (events) => {
      const bad = events.find(({ seq }) => seq === 7 || seq === 700)
      if (bad) throw new NetworkError('invalid', 'not that', named ? { id: bad.id } : {})
    }
    await publish(1000)
    await publisher.start()
    await expect.poll(unsent).toBe(0)
    expect(bus.numbers).toEqual(range(1, 1000).filter((seq) => seq !== 7 && seq !== 700))
    expect([publisher.sent, publisher.refused]).toEqual([998, 2])
  })

  it('sends again what it does not know to have arrived', async () => {
    const { bus, publisher, publish, unsent } = await setUp()
    bus.refuse = (events) => {
      bus.batches.push([...events])
      bus.refuse = () => {}
      throw new NetworkError('unavailable', 'the answer was lost')
    }
    await publish(2)
    await publisher.start()
    await expect.poll(() => bus.calls).toBe(1)
    publisher.nudge()
    await expect.poll(unsent).toBe(0)
    expect(bus.numbers).toEqual([1, 2, 1, 2])
  })

  it('tries once more at the end, also where it waits', async () => {
    const { bus, publisher, publish, unsent } = await setUp()
    bus.refuse = away
    await publish(3)
    await publisher.start()
    await expect.poll(() => bus.calls).toBe(1)
    bus.refuse = () => {}
    await publisher.stop()
    expect(await unsent()).toBe(0)
  })

  it('does not wait at the end for a bus that is stuck', async () => {
    const { bus, publisher, publish, unsent } = await setUp()
    bus.refuse = (_, signal) =>
      new Promise((_resolve, reject) => {
        if (bus.calls === 1) signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
      })
    await publish(3)
    await publisher.start()
    await expect.poll(() => bus.calls).toBe(1)
    const begin = performance.now()
    await publisher.stop()
    expect(performance.now() - begin).toBeLessThan(5000)
    expect(bus.calls).toBe(2)
    expect(await unsent()).toBe(3)
  })
})
