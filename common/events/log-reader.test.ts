import { describe, expect, it, onTestFinished } from 'vitest'
import { ManualClock } from '../clock.ts'
import { NetworkError } from '../errors.ts'
import { silentLog } from '../log.ts'
import { draft, foreign } from './log.contract.ts'
import { LogReader, type LogReaderDeps, type LogReaderOptions } from './log-reader.ts'
import { SqliteEventLog } from './sqlite-log.ts'

function setUp(retain = { events: 1e6, ms: 1e12 }) {
  const clock = new ManualClock()
  const log = SqliteEventLog.open(':memory:', { origin: 'P1', clock, retain })
  const done: string[] = []
  const begin = async (over: Partial<LogReaderDeps> = {}, options: Partial<LogReaderOptions> = {}) => {
    const onEvents: LogReaderDeps['onEvents'] = (rows) => void done.push(...rows.map(({ event }) => event.id))
    const reader = new LogReader({ log, clock, logger: silentLog, onEvents, ...over }, { name: 'test', ...options })
    onTestFinished(() => reader.stop())
    await reader.start()
    return reader
  }
  const keep = (...seqs: number[]) => log.keep(seqs.map((seq) => foreign(seq)))
  return { clock, log, done, begin, keep }
}

describe('a reader of a log', () => {
  it('that has never read begins with what comes from now on', async () => {
    const { begin, keep, done } = setUp()
    await keep(1, 2)
    await begin()
    await keep(3)
    await keep(4)
    await expect.poll(() => done).toEqual(['abc.3', 'abc.4'])
  })

  it('may begin at the start', async () => {
    const { begin, keep, done } = setUp()
    await keep(1, 2)
    await begin({}, { from: 'start' })
    await expect.poll(() => done).toEqual(['abc.1', 'abc.2'])
  })

  it('goes on where it got to, also where it never got anything', async () => {
    const { begin, keep, done } = setUp()
    await (await begin()).stop()
    await keep(1)
    const second = await begin()
    await expect.poll(() => done).toEqual(['abc.1'])
    await second.stop()
    await keep(2, 3)
    await begin()
    await expect.poll(() => done).toEqual(['abc.1', 'abc.2', 'abc.3'])
  })

  it('gets what it wants, in batches, in order', async () => {
    const { begin, keep, log, done } = setUp()
    const sizes: number[] = []
    await keep(1, 2, 3)
    await log.publish([draft(1), { type: 'peer.expired', data: { peer: 'P2' } } as never])
    await keep(4, 5)
    await begin(
      {
        onEvents: async (rows) => {
          sizes.push(rows.length)
          await Promise.resolve()
          done.push(...rows.map(({ event }) => event.type))
        },
      },
      { from: 'start', batch: 2, types: new Set(['file.added'] as const) },
    )
    await expect.poll(() => done).toHaveLength(6)
    expect(done).not.toContain('peer.expired')
    expect(sizes).toEqual([2, 2, 1, 1])
    await expect.poll(() => log.cursor('test')).toBe(7)
  })

  it('whose effect fails gets the same again, after growing pauses, and what comes meanwhile does not shorten them', async () => {
    const { begin, keep, clock, done, log } = setUp()
    let attempts = 0
    await begin({
      onEvents: (rows) => {
        if (++attempts < 4) throw new NetworkError('unavailable', 'not now')
        done.push(...rows.map(({ event }) => event.id))
      },
    })
    await keep(1)
    for (const [attempt, pause] of [250, 500, 1000].entries()) {
      await expect.poll(() => attempts).toBe(attempt + 1)
      await keep(attempt + 2)
      clock.advance(pause * 0.85)
      expect(await log.cursor('test')).toBe(0)
      expect(attempts).toBe(attempt + 1)
      const due = () => {
        clock.advance(pause * 0.3)
        return attempts
      }
      await expect.poll(due).toBe(attempt + 2)
    }
    await expect.poll(() => done).toEqual(['abc.1', 'abc.2', 'abc.3', 'abc.4'])
    await keep(5)
    await expect.poll(() => done.at(-1)).toBe('abc.5')
  })

  it('that was away too long is told of the gap, then gets what there is', async () => {
    const { begin, keep, log, done } = setUp({ events: 2, ms: 1e12 })
    await (await begin()).stop()
    await keep(1, 2, 3, 4)
    await log.sweep()
    await begin({ onGap: () => void done.push('gap') })
    await expect.poll(() => done).toEqual(['gap', 'abc.3', 'abc.4'])
    await keep(5)
    await expect.poll(() => done).toEqual(['gap', 'abc.3', 'abc.4', 'abc.5'])
  })

  it('is told of a gap behind which nothing is left, once', async () => {
    const { begin, keep, log, done } = setUp({ events: 0, ms: 1e12 })
    await (await begin()).stop()
    await keep(1, 2)
    await log.sweep()
    await begin({ onGap: () => void done.push('gap') })
    await expect.poll(() => log.cursor('test')).toBe(2)
    await keep(3)
    await expect.poll(() => done).toEqual(['gap', 'abc.3'])
  })

  it('ends while its effect is under way, and does that again next time', async () => {
    const { begin, keep, done } = setUp()
    let begun = false
    const reader = await begin({
      onEvents: (_, signal) =>
        new Promise((_resolve, reject) => {
          begun = true
          signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
        }),
    })
    await keep(1)
    await expect.poll(() => begun).toBe(true)
    await reader.stop()
    await begin()
    await expect.poll(() => done).toEqual(['abc.1'])
  })
})
