import { expect, test, vi } from 'vitest'
import { ManualClock } from '../common/clock.ts'
import { NetworkError } from '../common/errors.ts'
import { type FileName, parsePeerId } from '../common/ids.ts'
import { silentLog } from '../common/log.ts'
import type { FileEntry } from '../common/schemas.ts'
import { MaestroSession, type SessionDeps } from './maestro-session.ts'

const entry = (name: string): FileEntry => ({ name: name as FileName, size: 1, id: null })
const P1 = parsePeerId('P1')

/** A Maestro that keeps one lease, and a catalog that a test changes. */
function world() {
  const files = new Map<FileName, FileEntry>([['a' as FileName, entry('a')]])
  let listener: Parameters<SessionDeps['catalog']['onChange']>[0] = () => {}
  const catalog = {
    revision: 1,
    entries: () => [...files.values()],
    onChange: (l: typeof listener) => {
      listener = l
      return () => {}
    },
    change(added: string[], removed: string[] = []) {
      for (const name of removed) files.delete(name as FileName)
      for (const name of added) files.set(name as FileName, entry(name))
      catalog.revision++
      listener({ to: catalog.revision, added: added.map(entry), removed: removed as FileName[] })
    },
  }
  const held = { revision: -1, names: new Set<string>() }
  const calls: string[] = []
  let down = false
  const lease = () => ({ id: P1, revision: held.revision, files: held.names.size, lease_ms: 3000, heartbeat_ms: 1000 })
  const answer = (call: string) => {
    calls.push(call)
    if (down) throw new NetworkError('unavailable', 'the Maestro does not answer')
  }
  const maestro: SessionDeps['maestro'] = {
    url: 'http://maestro',
    async register({ revision, files }) {
      answer('register')
      held.revision = revision
      held.names = new Set(files.map((file) => file.name))
      return lease()
    },
    async heartbeat(_, revision) {
      answer('heartbeat')
      if (held.revision === -1) throw new NetworkError('not_found', 'no lease')
      if (held.revision !== revision) throw new NetworkError('conflict', 'another revision')
      return lease()
    },
    async announceChanges(_, { from, to, add, remove }) {
      answer('announce')
      if (held.revision !== from) throw new NetworkError('conflict', 'another revision')
      held.revision = to
      for (const { name } of add) held.names.add(name)
      for (const name of remove) held.names.delete(name)
      return lease()
    },
    async withdraw() {
      answer('withdraw')
    },
  }
  const clock = new ManualClock()
  const session = new MaestroSession(P1, {
    maestro,
    catalog,
    address: async () => ({ rest: 'http://127.0.0.1:8000', grpcPort: 1 }),
    log: silentLog,
    clock,
  })
  return { session, catalog, held, calls, maestro, clock, setDown: (value: boolean) => (down = value) }
}

/** Subscribes without the timer: the test ticks by itself. */
async function started() {
  const w = world()
  await w.session.start()
  await expect.poll(() => w.calls.length).toBe(1)
  return w
}

test('a session registers with everything, then sends heartbeats', async () => {
  const { session, calls, held } = world()
  await session.tick()
  await session.tick()
  expect(calls).toEqual(['register', 'heartbeat'])
  expect([...held.names]).toEqual(['a'])
  expect(session.state).toBe('registered')
})

test('a change is announced by itself, without the rest', async () => {
  const { session, catalog, calls, held } = await started()
  catalog.change(['b'], ['a'])
  await expect.poll(() => [...held.names]).toEqual(['b'])
  expect(calls).toEqual(['register', 'announce'])
  expect(held.revision).toBe(2)
  await session.stop()
})

test('a lost lease and a differing revision both lead to registering again', async () => {
  const { session, held, calls } = world()
  await session.tick()
  held.revision = -1
  await session.tick()
  held.revision = 99
  await session.tick()
  expect(calls).toEqual(['register', 'heartbeat', 'register', 'heartbeat', 'register'])
  expect(held.revision).toBe(1)
})

test('a Maestro that is away is told of, and changes made meanwhile reach it afterwards', async () => {
  const { session, catalog, held, setDown } = await started()
  setDown(true)
  catalog.change(['b'])
  await expect.poll(() => session.state).toBe('unreachable')
  expect(session.problem).toContain('does not answer')
  catalog.change(['c'], ['b'])
  setDown(false)
  await session.tick()
  expect([...held.names].sort()).toEqual(['a', 'c'])
  expect(session.state).toBe('registered')
  expect(session.problem).toBe(null)
  await session.stop()
})

test('an announcement whose answer was lost is mended by registering', async () => {
  const { session, catalog, held, maestro, calls } = await started()
  const announce = maestro.announceChanges
  maestro.announceChanges = async (...args) => {
    await announce(...args)
    throw new NetworkError('unavailable', 'the answer was lost')
  }
  catalog.change(['b'])
  await expect.poll(() => calls.includes('announce')).toBe(true)
  maestro.announceChanges = announce
  await session.tick()
  expect(held.revision).toBe(2)
  expect([...held.names].sort()).toEqual(['a', 'b'])
  await session.stop()
})

test('a directory that got to a later revision by itself is told what is missing, and not everything again', async () => {
  const { session, catalog, held, calls, maestro } = await started()
  const refuse = (revision: number) => new NetworkError('conflict', 'another revision', { revision })
  const { heartbeat, announceChanges } = maestro
  maestro.heartbeat = async (id, revision) => {
    if (held.revision !== revision) throw refuse(held.revision)
    return heartbeat(id, revision)
  }
  maestro.announceChanges = async (id, change) => {
    if (held.revision !== change.from) throw refuse(held.revision)
    return announceChanges(id, change)
  }
  held.revision = 2
  held.names.add('b')
  catalog.change(['b'])
  await expect.poll(() => calls.filter((call) => call === 'announce').length).toBe(1)
  catalog.change(['c'])
  await expect.poll(() => held.revision).toBe(3)
  expect([...held.names].sort()).toEqual(['a', 'b', 'c'])
  expect(calls.filter((call) => call === 'register')).toHaveLength(1)
  held.revision = 99
  await session.tick()
  expect(calls.filter((call) => call === 'register')).toHaveLength(2)
  await session.stop()
})

test('a refusal is told with its reason', async () => {
  const { session, maestro } = world()
  maestro.register = async () => {
    throw new NetworkError('conflict', 'P1 is alive at another address')
  }
  await session.tick()
  expect(session.state).toBe('refused')
  expect(session.problem).toContain('another address')
})

test('stopping withdraws', async () => {
  const { session, calls } = await started()
  await session.stop()
  expect(calls.at(-1)).toBe('withdraw')
})

test.each([0, -1, 2 ** 40])(
  'a Maestro that wants a heartbeat every %s ms does not make it race',
  async (heartbeat_ms) => {
    const { session, maestro, clock } = world()
    const lease = { id: P1, revision: 1, files: 1, lease_ms: 1, heartbeat_ms }
    maestro.register = async () => lease
    const sleeps = vi.spyOn(clock, 'sleep')
    await session.start()
    await expect.poll(() => sleeps.mock.calls.length).toBe(1)
    const [ms] = sleeps.mock.calls[0]!
    expect(ms).toBeGreaterThan(20)
    // More than a timer can wait is no wait at all.
    expect(ms).toBeLessThan(2 ** 31)
    await session.stop()
  },
)

test('a Maestro that changes its heartbeat is followed', async () => {
  const { session, maestro, clock } = world()
  const sleeps = vi.spyOn(clock, 'sleep')
  await session.start()
  await expect.poll(() => sleeps.mock.calls.length).toBe(1)
  maestro.heartbeat = async () => ({ id: P1, revision: 1, files: 1, lease_ms: 300, heartbeat_ms: 100 })
  clock.advance(2000)
  await expect.poll(() => sleeps.mock.calls.length).toBe(2)
  expect(sleeps.mock.calls[1]![0]).toBeLessThan(200)
  await session.stop()
})
