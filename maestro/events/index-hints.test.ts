import { describe, expect, it, onTestFinished } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import type { EventDraft, NetworkEvent } from '../../common/events/event.ts'
import { parseFileName, parsePeerId } from '../../common/ids.ts'
import { SqliteStore } from '../directory/sqlite.ts'
import { added, draft, eventOf, removed, renamed } from './event.fixture.ts'
import { IndexHints } from './index-hints.ts'

const P1 = parsePeerId('P1')
const LEASE = 1000

function world(maxFilesPerPeer = 100) {
  const clock = new ManualClock()
  const store = SqliteStore.open(':memory:')
  onTestFinished(() => store.close())
  /** what fails next at the store */
  const failures: Error[] = []
  const failing: Pick<SqliteStore, 'peer' | 'hint'> = {
    peer: (...args) => store.peer(...args),
    hint: async (...args) => {
      const failure = failures.shift()
      if (failure) throw failure
      return store.hint(...args)
    },
  }
  const opened = () => new IndexHints({ store: failing, clock }, { maxFilesPerPeer })
  let hints = opened()
  let seq = 0
  return {
    clock,
    store,
    failures,
    register: (id = P1, revision = 1, names: string[] = []) => {
      const files = names.map((name) => ({ name: parseFileName(name), size: null, id: null }))
      const term = { now: clock.now(), expiresAt: clock.now() + LEASE }
      return store.register({ id, rest: `http://${id}:8000`, grpcPort: 1, revision, files }, term, 10)
    },
    /** They are heard together. */
    hear: async (...drafts: EventDraft[]): Promise<NetworkEvent[]> => {
      const events = drafts.map((one) => eventOf('P1', ++seq, one))
      await hints.apply(events)
      return events
    },
    again: (events: NetworkEvent[]) => hints.apply(events),
    forget: () => {
      hints = opened()
    },
    /** What the directory holds of P1: its revision and its names. */
    held: async () => [(await store.peer(P1, clock.now()))?.revision, ...(await store.namesOf(P1, 100)).sort()],
  }
}

describe('a hint', () => {
  it('brings the directory from the revision that it holds to the next', async () => {
    const { register, hear, held } = world()
    await register(P1, 1, ['old.txt', 'was.txt'])
    await hear(added('a.txt', 1))
    expect(await held()).toEqual([2, 'a.txt', 'old.txt', 'was.txt'])
    await hear(removed('old.txt', 2))
    await hear(renamed('was.txt', 'is.txt', 3))
    expect(await held()).toEqual([4, 'a.txt', 'is.txt'])
  })

  it('is passed over where the directory holds another revision, however often it comes', async () => {
    const { register, hear, again, held } = world()
    await register(P1, 5)
    const old = await hear(added('a.txt', 3), added('b.txt', 4), removed('b.txt', 5))
    expect(await held()).toEqual([6])
    await again(old)
    await hear(added('c.txt', 7))
    expect(await held()).toEqual([6])
  })

  it('for a peer without a lease changes nothing, and none is renewed', async () => {
    const { register, hear, held, clock, store } = world()
    await hear(added('a.txt', 1))
    expect(await store.counts(clock.now())).toEqual({ peers: 0, files: 0 })
    await register()
    clock.advance(LEASE - 1)
    await hear(added('a.txt', 1))
    expect(await held()).toEqual([2, 'a.txt'])
    clock.advance(1)
    await hear(added('b.txt', 2))
    expect((await held())[0]).toBeUndefined()
    expect(await store.expire(clock.now(), 10)).toEqual([P1])
  })

  it('of one peer says nothing of another', async () => {
    const { register, again, held, store, clock } = world()
    await register()
    await register(parsePeerId('P2'), 1)
    await again([
      eventOf('P2', 1, added('a.txt', 1)),
      eventOf('P1', 1, added('b.txt', 1)),
      eventOf('P2', 2, added('c.txt', 2)),
    ])
    expect(await held()).toEqual([2, 'b.txt'])
    expect(await store.peer(parsePeerId('P2'), clock.now())).toMatchObject({ revision: 3, files: 2 })
  })

  it('among other events is found', async () => {
    const { register, hear, held } = world()
    await register()
    await hear(draft('peer.registered', { peer: 'P1' }), added('a.txt', 1))
    expect(await held()).toEqual([2, 'a.txt'])
  })

  it('while a peer is registered in parts, at revision 0, is passed over', async () => {
    const { register, hear, held } = world()
    await register(P1, 0, ['first part.txt'])
    await hear(added('gone since.txt', 0, 0, 1))
    await hear(added('a.txt', 0))
    expect(await held()).toEqual([0, 'first part.txt'])
  })

  it('beyond the files that a peer may have is passed over, and so is what builds on it', async () => {
    const { register, hear, held } = world(1)
    await register(P1, 1, ['a.txt'])
    await hear(added('b.txt', 1))
    await hear(removed('a.txt', 2))
    expect(await held()).toEqual([1, 'a.txt'])
  })
})

describe('many changes at once', () => {
  it('are one change of the directory, the last word on each name', async () => {
    const { register, hear, held } = world()
    await register(P1, 1, ['x.txt'])
    await hear(
      added('a.txt', 1),
      removed('x.txt', 2),
      added('x.txt', 3),
      removed('a.txt', 4),
      renamed('x.txt', 'y.txt', 5),
    )
    expect(await held()).toEqual([6, 'y.txt'])
  })

  it('begin where the directory is, though the first of them are known there already', async () => {
    const { register, hear, held } = world()
    await register(P1, 2, ['a.txt'])
    await hear(added('a.txt', 1), added('b.txt', 2))
    expect(await held()).toEqual([3, 'a.txt', 'b.txt'])
  })
})

describe('a change in parts', () => {
  const parts = [added('a.txt', 1, 1, 1), added('b.txt', 1, 1, 2), added('c.txt', 1, 2, 3)]

  it('is complete with its last part, heard together or one by one', async () => {
    const together = world()
    await together.register()
    await together.hear(...parts)
    expect(await together.held()).toEqual([2, 'a.txt', 'b.txt', 'c.txt'])
    const apart = world()
    await apart.register()
    for (const part of parts) await apart.hear(part)
    expect(await apart.held()).toEqual([2, 'a.txt', 'b.txt', 'c.txt'])
  })

  it.each([
    ['the first', [1, 2]],
    ['the middle', [0, 2]],
    ['the last', [0, 1]],
  ])('of which %s is lost never passes for whole', async (_, heard) => {
    const { register, hear, held } = world()
    await register()
    for (const part of heard) await hear(parts[part]!)
    await hear(added('d.txt', 2))
    expect((await held())[0]).toBe(1)
  })

  it('that was interrupted by a restart is left to the peer', async () => {
    const { register, hear, forget, held } = world()
    await register()
    await hear(parts[0]!)
    forget()
    await hear(parts[1]!, parts[2]!)
    expect(await held()).toEqual([1, 'a.txt'])
  })

  it('is complete though the directory failed in its middle, and it came again', async () => {
    const { register, hear, again, failures, held } = world()
    await register()
    await hear(parts[0]!)
    const rest = [parts[1]!, parts[2]!].map((one, at) => eventOf('P1', 10 + at, one))
    failures.push(new Error('disk full'))
    await expect(again(rest.slice(0, 1))).rejects.toThrow('disk full')
    await again(rest.slice(0, 1))
    await again(rest.slice(1))
    expect(await held()).toEqual([2, 'a.txt', 'b.txt', 'c.txt'])
  })

  it('of which a part did not fit is not gone on with', async () => {
    const { register, hear, held } = world(1)
    await register(P1, 1, ['x.txt'])
    await hear(parts[0]!)
    await hear(removed('x.txt', 1, 2, 2))
    expect(await held()).toEqual([1, 'x.txt'])
  })
})
