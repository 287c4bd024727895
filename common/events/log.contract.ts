import fc from 'fast-check'
import { describe, expect, it, onTestFinished } from 'vitest'
import { ManualClock } from '../clock.ts'
import type { EventDraft, EventType, NetworkEvent } from './event.ts'
import type { EventLog } from './log.ts'

/** What an implementation is opened with. */
export interface ContractOptions {
  origin: string
  clock: ManualClock
  retain?: { events: number; ms: number }
  maxUnsent?: number
}

export interface LogUnderTest {
  /** A place that no other test has. */
  place: () => string
  /** Opens the log at a place; the same log for the same place, where that can outlive a log. */
  open: (place: string, options: ContractOptions) => EventLog
  /** A place with what would be left, were the process killed that has this one open; absent where nothing outlives it. */
  killed?: (place: string) => string
}

const HOUR = 3600_000

export function draft(number: number): EventDraft {
  const revision = { from: number, to: number + 1 }
  return {
    type: 'file.added',
    data: { name: `f${number}`, id: 'a'.repeat(64), size: number, revision },
  } as EventDraft
}

/** An event of another origin. */
export function foreign(seq: number, origin = 'P9', incarnation = 'abc'): NetworkEvent {
  const time = new Date(0).toISOString()
  return { v: 1, id: `${incarnation}.${seq}`, origin, seq, time, ...draft(seq) } as NetworkEvent
}

/** What every event log does. */
export function eventLogContract(make: LogUnderTest): void {
  const clock = new ManualClock()
  const opened = (place = make.place(), options: Partial<ContractOptions> = {}): EventLog => {
    const log = make.open(place, { origin: 'P1', clock, ...options })
    onTestFinished(() => log.close())
    return log
  }
  const drafts = (count: number, from = 1) => Array.from({ length: count }, (_, index) => draft(from + index))
  const ids = (events: readonly NetworkEvent[]) => events.map(({ id }) => id)
  const idsIn = async (log: EventLog) => (await log.read(0, 1e6)).map(({ event }) => event.id)

  describe('publish', () => {
    it('gives events ids of their own and numbers that follow each other', async () => {
      const log = opened()
      const events = [...(await log.publish(drafts(3))), ...(await log.publish(drafts(1, 4)))]
      expect(events.map(({ seq }) => seq)).toEqual([1, 2, 3, 4])
      expect(new Set(ids(events)).size).toBe(4)
      expect(events[3]).toMatchObject({ v: 1, origin: 'P1', time: new Date(clock.now()).toISOString(), ...draft(4) })
    })

    it('keeps them, as they will be sent, in the order of publishing', async () => {
      const log = opened()
      const [first, second] = await Promise.all([log.publish(drafts(2)), log.publish(drafts(2, 3))])
      const rows = await log.read(0, 100)
      expect(rows.map(({ event }) => event)).toEqual([...first, ...second])
      expect(rows.map(({ text }) => JSON.parse(text))).toEqual([...first, ...second])
      expect(rows.some(({ text }) => text.includes('\n'))).toBe(false)
    })

    it('refuses an event that nobody would take, with all that came with it', async () => {
      const log = opened()
      const data = { name: 'x'.repeat(20_000), revision: { from: 0, to: 0 } }
      await expect(
        log.publish([...drafts(1), { type: 'file.removed', data } as unknown as EventDraft]),
      ).rejects.toMatchObject({ code: 'too_large' })
      expect(await idsIn(log)).toEqual([])
      expect((await log.publish(drafts(1)))[0]!.seq).toBe(1)
    })

    it('does nothing for no events', async () => {
      expect(await opened().publish([])).toEqual([])
    })
  })

  describe('keep', () => {
    it('keeps each event once, however often it comes, and says how many were new', async () => {
      const log = opened()
      expect(await log.keep([foreign(1), foreign(2), foreign(1)])).toBe(2)
      expect(await log.keep([foreign(2), foreign(3)])).toBe(1)
      expect(await idsIn(log)).toEqual(['abc.1', 'abc.2', 'abc.3'])
    })

    it('keeps events in the order of hearing, whatever their numbers', async () => {
      const log = opened()
      await log.keep([foreign(5), foreign(2)])
      await log.keep([foreign(4)])
      expect(await idsIn(log)).toEqual(['abc.5', 'abc.2', 'abc.4'])
    })

    it('drops own events that come back', async () => {
      const log = opened()
      const events = await log.publish(drafts(2))
      expect(await log.keep(events)).toBe(0)
    })

    it('takes nobody else for the origin of an event', async () => {
      const log = opened()
      await log.keep([foreign(1, 'P8')])
      expect(await log.keep([foreign(1, 'P9')])).toBe(1)
    })

    it('remembers where the source of events goes on', async () => {
      const log = opened()
      expect(await log.resume()).toBeUndefined()
      await log.keep([foreign(1)], 'a-1')
      await log.keep([foreign(2)])
      expect(await log.resume()).toBe('a-1')
      await log.keep([], 'a-2')
      expect(await log.resume()).toBe('a-2')
    })
  })

  describe('reading', () => {
    it('begins after a position, and gives no more than asked for', async () => {
      const log = opened()
      await log.keep([1, 2, 3, 4].map((seq) => foreign(seq)))
      const [first, second] = await log.read(0, 2)
      expect([first!.event.id, second!.event.id]).toEqual(['abc.1', 'abc.2'])
      expect((await log.read(second!.position, 10)).map(({ event }) => event.id)).toEqual(['abc.3', 'abc.4'])
    })

    it('tells the first and last position', async () => {
      const log = opened()
      const none = await log.bounds()
      expect(none.first).toBe(none.last + 1)
      await log.keep([foreign(1), foreign(2), foreign(3)])
      const rows = await log.read(0, 10)
      expect(await log.bounds()).toEqual({ first: rows[0]!.position, last: rows[2]!.position })
    })

    it('finds the position after which so many follow, or all where there are fewer', async () => {
      const log = opened()
      await log.keep([1, 2, 3, 4].map((seq) => foreign(seq)))
      const { last } = await log.bounds()
      for (const [count, follow] of [
        [0, 0],
        [3, 3],
        [4, 4],
        [9, 4],
      ] as const)
        expect(await log.read(await log.back(last, count), 100)).toHaveLength(follow)
      expect(await log.back(last - 1, 2)).toBe(last - 3)
    })

    it('finds the position after which so many of some types follow, however far back', async () => {
      const log = opened(undefined, { retain: { events: 2600, ms: HOUR } })
      const gone = (peer: string) => ({ type: 'peer.expired', data: { peer } }) as EventDraft
      await log.publish([gone('P0'), gone('P1')])
      await log.publish([...drafts(1200), gone('P2'), ...drafts(1200), gone('P3'), gone('P4'), ...drafts(300)])
      const back = async (count: number, ...types: EventType[]) =>
        log.back((await log.bounds()).last, count, new Set(types))
      const followed = async (count: number) => {
        const rows = await log.read(await back(count, 'peer.expired'), 1e4)
        const peers = rows.flatMap(({ event }) => (event.type === 'peer.expired' ? [event.data.peer] : []))
        // The first of those is the first of all that follow.
        return [...peers, rows[0]?.event.type]
      }
      expect(await followed(0)).toEqual([undefined])
      expect(await followed(1)).toEqual(['P4', 'peer.expired'])
      expect(await followed(3)).toEqual(['P2', 'P3', 'P4', 'peer.expired'])
      expect(await followed(5)).toEqual(['P0', 'P1', 'P2', 'P3', 'P4', 'peer.expired'])
      await log.sweep()
      expect(await followed(9)).toEqual(['P2', 'P3', 'P4', 'file.added'])
      expect(await back(9, 'network.degraded')).toBe((await log.bounds()).first - 1)
    })

    it('reads and finds those of some types as if nothing else were there', async () => {
      const made: Record<string, EventDraft> = {
        'file.added': draft(1),
        'file.removed': { type: 'file.removed', data: { name: 'f', revision: { from: 0, to: 0 } } } as EventDraft,
        'peer.expired': { type: 'peer.expired', data: { peer: 'P2' } } as EventDraft,
        'peer.withdrawn': { type: 'peer.withdrawn', data: { peer: 'P2' } } as EventDraft,
      }
      const type = fc.constantFrom(...(Object.keys(made) as EventType[]))
      const many = { minLength: 1, maxLength: 40 }
      const number = fc.integer({ min: 0, max: 45 })
      await fc.assert(
        fc.asyncProperty(
          fc.array(type, many),
          fc.uniqueArray(type, { minLength: 1 }),
          ...([number, number, number] as const),
          async (types, some, gone, from, count) => {
            const log = make.open(make.place(), { origin: 'P1', clock, retain: { events: 45 - gone, ms: HOUR } })
            try {
              await log.publish(types.map((each) => made[each]!))
              await log.sweep()
              const { first, last } = await log.bounds()
              const wanted = (await log.read(0, 1e6)).filter(({ event }) => some.includes(event.type))
              const after = wanted.filter(({ position }) => position > from)
              const read = await log.read(from, count, new Set(some))
              expect(read.map(({ event }) => event)).toEqual(after.slice(0, count).map(({ event }) => event))
              expect(read.map(({ type }) => type)).toEqual(read.map(({ event }) => event.type))
              const upTo = Math.min(last, from)
              const before = wanted.filter(({ position }) => position <= upTo)
              const found = count === 0 ? upTo : (before.at(-count)?.position ?? first) - 1
              expect(await log.back(upTo, count, new Set(some))).toBe(found)
            } finally {
              await log.close()
            }
          },
        ),
        { numRuns: 60 },
      )
    })

    it('knows its own positions from those of other logs', async () => {
      const [log, other] = [opened(), opened()]
      await log.keep([foreign(1), foreign(2)])
      expect(await log.sameUpTo(log.name)).toBe((await log.bounds()).last)
      expect(await other.sameUpTo(log.name)).toBeUndefined()
    })

    it('shows nothing that is not committed', async () => {
      const log = opened()
      const kept = log.keep([foreign(1)])
      const published = log.publish(drafts(1))
      expect(await log.read(0, 10)).toEqual([])
      expect(await log.unsent(10)).toEqual([])
      await Promise.all([kept, published])
      expect(await log.read(0, 10)).toHaveLength(2)
    })

    it('tells listeners of each new event, once, in order, when it can be read', async () => {
      const log = opened()
      const heard: string[] = []
      const readable: Promise<boolean>[] = []
      const stop = log.onAppend((rows) => {
        heard.push(...rows.map(({ event }) => event.id))
        readable.push(log.bounds().then(({ last }) => last >= rows.at(-1)!.position))
      })
      const published = log.publish(drafts(1))
      await Promise.all([log.keep([foreign(1), foreign(2)]), log.keep([foreign(2), foreign(3)]), published])
      expect(heard).toEqual([...ids(await published), 'abc.1', 'abc.2', 'abc.3'])
      expect(await Promise.all(readable)).not.toContain(false)
      stop()
      await log.keep([foreign(4)])
      expect(heard).toHaveLength(4)
    })
  })

  it('remembers how far each reader got', async () => {
    const log = opened()
    expect(await log.cursor('webhook')).toBeUndefined()
    await log.moveCursor('webhook', 3)
    await log.moveCursor('follow', 1)
    await log.moveCursor('webhook', 7)
    expect([await log.cursor('webhook'), await log.cursor('follow')]).toEqual([7, 1])
  })

  describe('the outbox', () => {
    it('holds own events, oldest first, until others have them', async () => {
      const log = opened()
      await log.keep([foreign(1)])
      const events = await log.publish(drafts(3))
      expect(await log.unsent(2)).toEqual(events.slice(0, 2))
      await log.sent(ids(events.slice(0, 2)))
      await log.sent(['unknown', events[0]!.id])
      expect(await log.unsent(10)).toEqual(events.slice(2))
      expect(await log.backlog()).toEqual({ unsent: 1, dropped: 0 })
      expect(await idsIn(log)).toHaveLength(4)
    })

    it('gives up the oldest where there are too many, and counts them', async () => {
      const log = opened(undefined, { maxUnsent: 3 })
      await log.publish(drafts(2))
      const later = await log.publish(drafts(3, 3))
      expect(await log.unsent(10)).toEqual(later)
      expect(await log.backlog()).toEqual({ unsent: 3, dropped: 2 })
      expect(await idsIn(log)).toHaveLength(5)
    })
  })

  describe('sweep', () => {
    const retain = { events: 3, ms: HOUR }

    it('drops the oldest beyond a number', async () => {
      const log = opened(undefined, { retain })
      await log.keep([1, 2, 3, 4, 5].map((seq) => foreign(seq)))
      const before = await log.bounds()
      await log.sweep()
      expect(await idsIn(log)).toEqual(['abc.3', 'abc.4', 'abc.5'])
      expect((await log.bounds()).last).toBe(before.last)
    })

    it('drops what was heard too long ago, down to nothing; positions go on', async () => {
      const log = opened(undefined, { retain })
      await log.keep([foreign(1)])
      clock.advance(HOUR / 2)
      await log.keep([foreign(2)])
      clock.advance(HOUR / 2 + 1)
      await log.sweep()
      expect(await idsIn(log)).toEqual(['abc.2'])
      clock.advance(HOUR)
      await log.sweep()
      const { first, last } = await log.bounds()
      expect(first).toBe(last + 1)
      await log.keep([foreign(3)])
      expect((await log.read(0, 1))[0]!.position).toBeGreaterThan(last)
    })

    it('drops many', async () => {
      const log = opened(undefined, { retain })
      for (let seq = 1; seq <= 5000; seq += 500)
        await log.keep(Array.from({ length: 500 }, (_, index) => foreign(seq + index)))
      await log.sweep()
      expect(await idsIn(log)).toEqual(['abc.4998', 'abc.4999', 'abc.5000'])
    })

    it('does not take for new what it has dropped: neither own events nor those of others', async () => {
      const log = opened(undefined, { retain })
      const own = await log.publish(drafts(2))
      await log.sent(ids(own))
      await log.keep([1, 2, 3, 4].map((seq) => foreign(seq)))
      await log.sweep()
      expect(await log.keep([...own, foreign(1)])).toBe(0)
      expect(await log.keep([foreign(1, 'P9', 'another'), foreign(5)])).toBe(2)
    })

    it('takes one that others have overtaken, as long as these are kept', async () => {
      const log = opened(undefined, { retain })
      await log.keep([foreign(1), foreign(2), foreign(4), foreign(5), foreign(6)])
      await log.sweep()
      expect(await log.keep([foreign(3)])).toBe(1)
      expect(await log.keep([foreign(2)])).toBe(0)
    })

    it('counts what nobody else has heard of', async () => {
      const log = opened(undefined, { retain })
      const own = await log.publish(drafts(5))
      await log.sweep()
      expect(await log.unsent(10)).toEqual(own.slice(2))
      expect(await log.backlog()).toEqual({ unsent: 3, dropped: 2 })
    })
  })

  it('refuses whatever is asked of it once it is closed', async () => {
    const log = make.open(make.place(), { origin: 'P1', clock })
    const kept = log.keep([foreign(1)])
    await log.close()
    await log.close()
    expect(await kept).toBe(1)
    await expect(log.publish(drafts(1))).rejects.toMatchObject({ code: 'cancelled' })
    await expect(log.read(0, 1)).rejects.toMatchObject({ code: 'cancelled' })
  })

  const { killed } = make
  if (killed)
    describe('what outlives a process', () => {
      const ends: [string, (log: EventLog, place: string) => Promise<string>][] = [
        ['that ended', (log, place) => log.close().then(() => place)],
        ['that was killed', async (_, place) => killed(place)],
      ]
      it.each(ends)('is everything, of one %s', async (_, end) => {
        const place = make.place()
        const log = opened(place)
        const own = await log.publish(drafts(3))
        await log.sent([own[0]!.id])
        await log.keep([foreign(1)], 'a-1')
        await log.moveCursor('webhook', 2)
        const rows = await log.read(0, 10)

        const again = opened(await end(log, place))
        expect(again.name).not.toBe(log.name)
        expect(await again.sameUpTo(log.name)).toBe(rows.at(-1)!.position)
        expect(await again.read(0, 10)).toEqual(rows)
        expect(await again.unsent(10)).toEqual(own.slice(1))
        expect(await again.backlog()).toEqual({ unsent: 2, dropped: 0 })
        expect([await again.resume(), await again.cursor('webhook')]).toEqual(['a-1', 2])
        expect(await again.keep([foreign(1), ...own])).toBe(0)
        const [next] = await again.publish(drafts(1))
        expect(next!.seq).toBe(4)
        expect(ids(own)).not.toContain(next!.id)
        expect((await again.read(rows.at(-1)!.position, 10)).map(({ event }) => event)).toEqual([next])
      })

      it('is told from what a power cut took, whose positions others have now', async () => {
        const place = make.place()
        const log = opened(place)
        await log.keep([foreign(1), foreign(2)])
        const { last } = await log.bounds()
        const before = killed(place)
        await log.keep([foreign(3)])
        const again = opened(before)
        await again.keep([foreign(4), foreign(5)])
        expect(await again.sameUpTo(log.name)).toBe(last)
        await again.close()
        const third = opened(before)
        expect(await third.sameUpTo(log.name)).toBe(last)
        expect(await third.sameUpTo(again.name)).toBe(last + 2)
      })

      it.each(ends)('is what was dropped, too, of one %s', async (_, end) => {
        const place = make.place()
        const log = opened(place, { retain: { events: 0, ms: HOUR }, maxUnsent: 1 })
        const own = await log.publish(drafts(3))
        await log.sweep()
        const { last } = await log.bounds()
        const again = opened(await end(log, place))
        expect(await again.bounds()).toEqual({ first: last + 1, last })
        expect(await again.keep(own)).toBe(0)
        expect(await again.backlog()).toEqual({ unsent: 0, dropped: 3 })
        expect((await again.publish(drafts(1)))[0]!.seq).toBe(4)
      })
    })

  it('is what a simple model of it is, whatever happens in whichever order', async () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('publish' as const), count: fc.integer({ min: 1, max: 4 }) }),
      fc.record({
        do: fc.constant('keep' as const),
        seqs: fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 6 }),
        origin: fc.constantFrom('P8', 'P9'),
      }),
      fc.record({ do: fc.constant('sent' as const), count: fc.integer({ min: 1, max: 3 }) }),
      fc.record({ do: fc.constant('sweep' as const), ms: fc.integer({ min: 0, max: HOUR / 2 }) }),
      fc.record({
        do: fc.constantFrom(...(killed ? (['reopen', 'kill'] as const) : (['sweep'] as const))),
        ms: fc.constant(0),
      }),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const options = { origin: 'P1', clock, retain: { events: 8, ms: HOUR }, maxUnsent: 5 }
        let place = make.place()
        let log = make.open(place, options)
        const kept: { key: string; at: number; own: boolean; event: NetworkEvent }[] = []
        let unsent: NetworkEvent[] = []
        let dropped = 0
        let published = 0
        const beyond = new Map<string, number>()
        const sourceOf = (event: NetworkEvent) => event.origin + event.id.replace(/\.\d+$/, '')
        const add = (event: NetworkEvent, own: boolean) => {
          const key = event.origin + event.id
          const known = kept.some((row) => row.key === key) || event.seq <= (beyond.get(sourceOf(event)) ?? 0)
          if (!known) kept.push({ key, at: clock.now(), own, event })
          return !known
        }
        try {
          for (const now of steps) {
            if (now.do === 'publish') {
              const events = await log.publish(drafts(now.count))
              expect(events.map(({ seq }) => seq)).toEqual(
                drafts(now.count, published + 1).map(({ data }) => (data as { size: number }).size),
              )
              published += now.count
              for (const event of events) expect(add(event, true)).toBe(true)
              unsent.push(...events)
              dropped += Math.max(0, unsent.length - 5)
              unsent = unsent.slice(-5)
            } else if (now.do === 'keep') {
              const events = now.seqs.map((seq) => foreign(seq, now.origin))
              expect(await log.keep(events)).toBe(events.filter((event) => add(event, false)).length)
            } else if (now.do === 'sent') {
              await log.sent(ids(unsent.splice(0, now.count)))
            } else if (now.do === 'sweep') {
              clock.advance(now.ms)
              await log.sweep()
              const from = kept.findIndex((row, index) => row.at >= clock.now() - HOUR && index >= kept.length - 8)
              const over = kept.splice(0, from === -1 ? kept.length : from)
              for (const { event } of over)
                beyond.set(sourceOf(event), Math.max(beyond.get(sourceOf(event)) ?? 0, event.seq))
              const left = unsent.filter((event) => !over.some((row) => row.event.id === event.id))
              dropped += unsent.length - left.length
              unsent = left
            } else {
              if (now.do === 'kill') place = killed!(place)
              await log.close()
              log = make.open(place, options)
            }
            expect((await log.read(0, 100)).map(({ event }) => event)).toEqual(kept.map(({ event }) => event))
            expect(await log.unsent(100)).toEqual(unsent)
            expect(await log.backlog()).toEqual({ unsent: unsent.length, dropped })
          }
        } finally {
          await log.close()
        }
      }),
      { numRuns: 60 },
    )
  })
}
