import { expect, test } from 'vitest'
import { systemClock } from '../../common/clock.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { sha256 } from '../../common/merkle.ts'
import type { FileEntry } from '../../common/schemas.ts'
import type { AnnouncedCatalog } from '../maestro-session.ts'
import { member } from './dht.fixture.ts'
import { Publisher } from './publisher.ts'
import { RecordStore } from './record-store.ts'

const FILES = 25_000
const never = new AbortController().signal

const fileOf = (name: string): FileEntry => ({
  name: name as FileName,
  size: 5,
  id: sha256(Buffer.from(name)).toString('hex') as ContentId,
})

/** The longest stretch in which no timer could fire, ms of this process's time: other processes don't count. */
async function longestStretch(work: () => Promise<void>): Promise<number> {
  let [longest, isDone] = [0, false]
  const beating = (async () => {
    while (!isDone) {
      const before = process.cpuUsage()
      await systemClock.sleep(0)
      const { user, system } = process.cpuUsage(before)
      longest = Math.max(longest, (user + system) / 1000)
    }
  })()
  await work()
  isDone = true
  await beating
  return longest
}

test('others have their turn while a publisher with 25,000 files works', { timeout: 60_000 }, async () => {
  let later = 0
  const clock = { now: () => Date.now() + later, sleep: systemClock.sleep }
  const self = { peer: 'P0' as PeerId, host: '127.0.0.1', restPort: 8000, grpcPort: 50051 }
  const owners = [member('P0', self.host), member('P1', '10.1.0.1')]
  const files = Array.from({ length: FILES }, (_, i) => fileOf(`folder/file-${i}.bin`))
  let change: Parameters<AnnouncedCatalog['onChange']>[0] = () => {}
  let stored = 0
  const publisher = new Publisher({
    ring: {
      lookup: async () => {
        await clock.sleep(0)
        return { owners }
      },
    },
    network: {
      store: async (_, records) => {
        await clock.sleep(0)
        stored += records.length
        return records.length
      },
    },
    catalog: {
      entries: () => files,
      onChange: (listener) => {
        change = listener
        return () => {}
      },
    },
    self: () => self,
    own: new RecordStore({ clock }),
    clock,
    random: () => 0.5,
    log: silentLog,
  })
  const tick = () => publisher.tick(never)
  const stretches = {
    load: await longestStretch(tick),
    nothing: await longestStretch(tick),
    change: await longestStretch(() => {
      change({ to: 1, added: [fileOf('new')], removed: [files[7]!.name] })
      return tick()
    }),
    again: await longestStretch(() => {
      publisher.republishSoon()
      later = 60_000
      return tick()
    }),
    end: await longestStretch(() => publisher.withdrawAll(never)),
  }
  // A change tells two records more; all of them are told twice.
  expect(stored).toBe(2 * 2 * FILES + 2)
  expect(Object.entries(stretches).filter(([, ms]) => ms >= 50)).toEqual([])
})
