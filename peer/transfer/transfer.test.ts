import { describe, expect, test } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import type { FileName, PeerId } from '../../common/ids.ts'
import type { TransferBody } from '../../common/schemas.ts'
import { FetchProgress } from './progress.ts'
import { Transfer } from './transfer.ts'
import { watchAll } from './watch-all.ts'

const P1 = 'P1' as PeerId
const P2 = 'P2' as PeerId
const settle = () => new Promise((resolve) => setImmediate(resolve))

/** A transfer of 1,000 pieces of 100 bytes that has begun, so many bytes of it there already. */
function begun(clock: ManualClock, resumed = 0, number = '1') {
  const transfer = new Transfer({ clock }, { number, mode: 'real' })
  transfer.file = 'film.mkv' as FileName
  const progress = new FetchProgress({ clock })
  transfer.attach(progress)
  progress.onManifest({ size: 100_000, pieceSize: 100 }, resumed)
  return { transfer, progress }
}

describe('who watches a transfer', () => {
  test('sees changes no more often than asked for, and the end always', async () => {
    const clock = new ManualClock()
    const { transfer, progress } = begun(clock)
    const seen: number[] = []
    const watching = (async () => {
      for await (const { bytes } of transfer.watch(200, new AbortController().signal)) seen.push(bytes)
    })()
    for (let i = 0; i < 50; i++) {
      progress.onVerified(P1, 10)
      await settle()
    }
    expect(seen).toHaveLength(1)
    clock.advance(200)
    await expect.poll(() => seen).toHaveLength(2)
    transfer.end('done')
    await watching
    expect(seen).toEqual([seen[0], 500, 500])
  })

  test('can stop watching while nothing happens', async () => {
    const clock = new ManualClock()
    const stop = new AbortController()
    const watching = new Transfer({ clock }, { number: '1', mode: 'real' }).watch(200, stop.signal)
    expect((await watching.next()).value).toMatchObject({ state: 'locating' })
    const next = watching.next()
    clock.advance(200)
    stop.abort()
    expect((await next).done).toBe(true)
  })

  test('sees a rate that sinks where nothing comes', async () => {
    const clock = new ManualClock()
    const { transfer, progress } = begun(clock)
    progress.onVerified(P1, 0)
    clock.advance(1000)
    progress.onVerified(P1, 50_000)
    const watching = transfer.watch(200, new AbortController().signal)
    expect((await watching.next()).value).toMatchObject({ rate: 50_000, eta_s: 1 })
    const next = watching.next()
    await settle()
    clock.advance(200)
    await settle()
    clock.advance(1000)
    expect((await next).value).toMatchObject({ state: 'running', rate: Math.round(50_000 / 2.2) })
    await watching.return(undefined)
  })
})

test('who watches all sees each as it is, then each that changed, however often it did', async () => {
  const clock = new ManualClock()
  const one = begun(clock)
  const two = begun(clock, 0, '2')
  const transfers = [one.transfer, two.transfer]
  const stop = new AbortController()
  const seen: TransferBody[] = []
  const watching = (async () => {
    for await (const body of watchAll(() => transfers, { clock, intervalMs: 200 }, stop.signal)) seen.push(body)
  })()
  await expect.poll(() => seen.map(({ transfer }) => transfer)).toEqual(['1', '2'])
  for (let i = 0; i < 50; i++) two.progress.onVerified(P1, 10)
  two.transfer.end('done')
  await settle()
  clock.advance(200)
  await expect.poll(() => seen).toHaveLength(3)
  expect(seen[2]).toMatchObject({ transfer: '2', state: 'done', bytes: 500 })
  stop.abort()
  await watching
})

describe('the numbers of a transfer', () => {
  test('are a rate of late, and after the end that of all', () => {
    const clock = new ManualClock()
    const { transfer, progress } = begun(clock, 50_000)
    for (let i = 0; i < 10; i++) {
      clock.advance(1000)
      progress.onReceived(i < 5 ? 1000 : 4000)
      progress.onVerified(P1, i < 5 ? 1000 : 4000)
    }
    expect(transfer.snapshot()).toMatchObject({
      ...{ rate: 4000, peak_rate: 4000, bytes: 75_000, resumed_bytes: 50_000, received: 25_000, eta_s: 6.25 },
      pieces: { total: 1000, verified: 510 },
      providers: [{ peer: 'P1', bytes: 25_000, state: 'connected', address: null, reason: null }],
    })
    transfer.end('done')
    expect(transfer.snapshot()).toMatchObject({ rate: 2500, seconds: 10, eta_s: null })
  })

  test('tell who gave what, who was dropped and why', () => {
    const { transfer, progress } = begun(new ManualClock())
    const base = { pieces: 10, rate: 5 }
    progress.onProviders([
      { ...base, peer: P1, address: 'a:1', state: 'banned', reason: 'sent wrong bytes' },
      { ...base, peer: P2, address: 'b:1', state: 'connected', reason: undefined },
    ])
    progress.onVerified(P2, 200)
    expect(transfer.snapshot()).toMatchObject({
      providers: [
        { peer: 'P2', address: 'b:1', state: 'connected', reason: null, pieces: 10, bytes: 200, rate: 5 },
        { peer: 'P1', address: 'a:1', state: 'banned', reason: 'sent wrong bytes', bytes: 0 },
      ],
    })
  })

  test('count what came of no use, also where it fails and nobody is left who gave it', () => {
    const { transfer, progress } = begun(new ManualClock())
    progress.onReceived(500)
    progress.onVerified(P2, 200)
    progress.onProviders([])
    transfer.end('failed')
    expect(transfer.snapshot()).toMatchObject({ received: 500, bytes: 200 })
  })

  test('of a folder whose large file was begun before begin with what is here of it', () => {
    const clock = new ManualClock()
    const transfer = new Transfer({ clock }, { number: '1', mode: 'real' })
    const attempt = () => {
      const progress = new FetchProgress({ clock }, transfer.before)
      transfer.attach(progress)
      return progress
    }
    const first = attempt()
    first.onListed({ files: 2, bytes: 1100 }, { files: 0, bytes: 0 })
    first.onVerified(P1, 500)
    first.onFiles(1)
    transfer.pause()
    transfer.resume()
    const second = attempt()
    second.onListed({ files: 2, bytes: 1100 }, { files: 1, bytes: 100 })
    second.onPartHere(400)
    expect(transfer.snapshot()).toMatchObject({ bytes: 500, resumed_bytes: 0, files: { total: 2, done: 1 }, rate: 0 })
    second.onVerified(P1, 600)
    second.onFiles(1)
    transfer.end('done')
    expect(transfer.snapshot()).toMatchObject({ bytes: 1100, size: 1100, resumed_bytes: 0, files: { done: 2 } })
  })

  test('say once what goes wrong again and again', () => {
    const { transfer, progress } = begun(new ManualClock())
    for (let i = 0; i < 100; i++) {
      progress.onNote('dropped P1: does not answer')
      progress.onNote('dropped P2: is full')
    }
    expect(transfer.snapshot().notes).toEqual(['dropped P1: does not answer', 'dropped P2: is full'])
  })

  test('name no more than a hundred providers: those who gave most', () => {
    const { transfer, progress } = begun(new ManualClock())
    for (let i = 1; i <= 150; i++) progress.onVerified(`P${i}` as PeerId, i)
    const { providers } = transfer.snapshot()
    expect(providers).toHaveLength(100)
    expect(providers[0]).toMatchObject({ peer: 'P150', bytes: 150 })
  })

  test('count on over a pause, also what came while it began, but not its time', () => {
    const clock = new ManualClock()
    const { transfer, progress } = begun(clock, 1000)
    clock.advance(2000)
    progress.onVerified(P1, 3000)
    transfer.pause()
    progress.onVerified(P1, 7)
    progress.onReceived(4000)
    clock.advance(60_000)
    expect(transfer.snapshot()).toMatchObject({ state: 'paused', bytes: 4000, seconds: 2, rate: 0 })
    transfer.resume()
    const again = new FetchProgress({ clock }, transfer.before)
    transfer.attach(again)
    again.onManifest({ size: 100_000, pieceSize: 100 }, 4007)
    clock.advance(1000)
    again.onReceived(96_000)
    again.onVerified(P2, 95_993)
    transfer.end('done')
    expect(transfer.snapshot()).toMatchObject({ bytes: 100_000, resumed_bytes: 1000, received: 100_000, seconds: 3 })
    expect(transfer.snapshot().providers.map(({ peer, bytes }) => [peer, bytes])).toEqual([
      ['P2', 95_993],
      ['P1', 3007],
    ])
  })

  test('tell that it waits for a provider, and the wait is no slowness of who comes back', () => {
    const clock = new ManualClock()
    const { transfer, progress } = begun(clock)
    progress.onWaiting(8000)
    expect(transfer.snapshot()).toMatchObject({ state: 'waiting', waiting: { retry_ms: 8000 }, eta_s: null })
    clock.advance(3_600_000)
    progress.onResumed()
    clock.advance(500)
    progress.onVerified(P1, 100)
    clock.advance(1000)
    progress.onVerified(P1, 1000)
    expect(transfer.snapshot()).toMatchObject({ state: 'running', waiting: null, rate: 1000 })
  })

  test('change no more once it has ended', () => {
    const { transfer, progress } = begun(new ManualClock())
    transfer.end('cancelled')
    const then = transfer.snapshot()
    transfer.end('done')
    transfer.pause()
    progress.onVerified(P1, 10)
    progress.onWhole()
    expect(transfer.snapshot()).toEqual(then)
  })
})
