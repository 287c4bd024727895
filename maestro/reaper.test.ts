import { expect, it, onTestFinished } from 'vitest'
import { ManualClock } from '../common/clock.ts'
import type { EventDraft } from '../common/events/event.ts'
import { parsePeerId } from '../common/ids.ts'
import { silentLog } from '../common/log.ts'
import { SqliteStore } from './directory/sqlite.ts'
import { Reaper } from './reaper.ts'

const PEERS = 10_000

it('tells of ten thousand leases that end at once, each once, and lets other work in between', async () => {
  const clock = new ManualClock()
  const store = SqliteStore.open(':memory:')
  onTestFinished(() => store.close())
  const term = { now: clock.now(), expiresAt: clock.now() + 1000 }
  const register = (i: number) =>
    store.register(
      { id: parsePeerId(`p${i}`), rest: `http://p${i}:1`, grpcPort: 1, revision: 1, files: [] },
      term,
      PEERS,
    )
  await Promise.all(Array.from({ length: PEERS }, (_, i) => register(i)))
  const bites: (readonly EventDraft[])[] = []
  const reaper = new Reaper({ store, clock, log: silentLog, publish: (drafts) => bites.push(drafts) })
  clock.advance(1000)

  let turns = 0
  const others = setInterval(() => turns++, 0)
  await reaper.tick()
  clearInterval(others)

  expect(new Set(bites.flat().map(({ data }) => (data as { peer: string }).peer)).size).toBe(PEERS)
  expect(bites.flat().length).toBe(PEERS)
  expect(Math.max(...bites.map(({ length }) => length))).toBeLessThanOrEqual(500)
  expect(turns).toBeGreaterThan(10)
  expect(reaper.expired).toBe(PEERS)
  await reaper.tick()
  expect(bites.flat().length).toBe(PEERS)
})
