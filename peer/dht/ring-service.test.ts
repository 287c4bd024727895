import { expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import type { FileEntry } from '../../common/schemas.ts'
import { Acquaintances } from '../simulate/acquaintances.ts'
import { SimulatedNetwork } from '../simulate/network.ts'
import { seededRandom } from '../simulate/seeded.ts'
import { VirtualClock } from '../simulate/virtual-clock.ts'
import { member, members } from './dht.fixture.ts'
import type { RingNetwork } from './protocol.ts'
import { type Member, placeOfName } from './ring.ts'
import { RingService } from './ring-service.ts'

const name = 'film.mkv' as FileName
const content = 'c'.repeat(64) as ContentId
const film: FileEntry = { name, id: content, size: 5 }
const never = new AbortController().signal

class Lab {
  readonly clock = new VirtualClock()
  readonly random = seededRandom(1)
  readonly network = new SimulatedNetwork({ clock: this.clock, random: this.random })
  readonly #changed = new Map<RingService, (change: { to: number; added: FileEntry[]; removed: FileName[] }) => void>()

  service(
    self: Member,
    knows: readonly Member[] = [],
    files: FileEntry[] = [],
    network?: RingNetwork,
    successors = 4,
  ): RingService {
    const known = new Acquaintances(this.random, 50)
    for (const one of knows) known.seen(one)
    let listener = (_: { to: number; added: FileEntry[]; removed: FileName[] }) => {}
    const catalog = {
      entries: () => files,
      onChange: (heard: typeof listener) => {
        const before = listener
        listener = (change) => {
          before(change)
          heard(change)
        }
        return () => {}
      },
    }
    const service = new RingService(
      {
        self: () => self,
        network: network ?? this.network.ringOf(self),
        known,
        catalog,
        clock: this.clock,
        random: this.random,
        log: silentLog,
      },
      { successors, stabilizeMs: [1000, 10_000] },
    )
    this.#changed.set(service, (change) => listener(change))
    this.network.settle(self, { ring: service.handlers })
    return service
  }

  share(service: RingService, added: FileEntry[]): void {
    this.#changed.get(service)!({ to: 1, added, removed: [] })
  }

  pass(ms: number): Promise<void> {
    return this.clock.runUntil(this.clock.now() + ms)
  }

  async stop(service: RingService): Promise<number> {
    const begin = this.clock.now()
    await this.clock.run(service.stop())
    return this.clock.now() - begin
  }
}

const [a, b, c] = [member('A', '10.1.0.1'), member('B', '10.2.0.1'), member('C', '10.3.0.1')]

test('one that begins with nobody is a ring with whoever tells it of itself, and what each shares is found', async () => {
  const lab = new Lab()
  const first = lab.service(a, [], [film])
  await first.start()
  await lab.pass(60_000)
  expect(first.state).toBe('alone')
  const second = lab.service(b, [a])
  await second.start()
  await lab.pass(5000)
  expect([first.state, second.state]).toEqual(['small', 'small'])
  expect((await lab.clock.run(second.find('name', name, never))).records).toMatchObject([
    { content, provider: { peer: a.peer } },
  ])
  await lab.stop(first)
  await lab.stop(second)
})

test('what the catalog finds after the start is published too', async () => {
  const lab = new Lab()
  const services = [lab.service(a), lab.service(b, [a])]
  for (const one of services) await one.start()
  await lab.pass(10_000)
  lab.share(services[0]!, [film])
  await lab.pass(5000)
  expect((await lab.clock.run(services[1]!.find('content', content, never))).records).toHaveLength(1)
  for (const one of services) await lab.stop(one)
})

test('after all others died what it shares is told again to those that come next', async () => {
  const lab = new Lab()
  const [first, second] = [lab.service(a, [], [film]), lab.service(b, [a])]
  await first.start()
  await second.start()
  await lab.pass(20_000)
  lab.network.kill(b)
  await lab.pass(60_000)
  expect(first.state).toBe('alone')
  const third = lab.service(c, [a])
  await third.start()
  await lab.pass(70_000)
  lab.network.kill(a)
  expect((await lab.clock.run(third.find('name', name, never))).records).toHaveLength(1)
  await lab.stop(third)
})

test('after many died at once what is shared is told again within two minutes, also where all that kept it are dead', async () => {
  const lab = new Lab()
  const all = members(16)
  const first = all.findIndex(({ id }) => id >= placeOfName(name))
  // From the one on that is responsible for the name.
  const [owner, ...others] = [...all.slice(first), ...all.slice(0, first)]
  const [alive, dead] = [others.slice(7), [owner!, ...others.slice(0, 7)]]
  let isOver = false
  const silent = () => Promise.reject(new NetworkError('unavailable', 'dead'))
  // The dead don't call either.
  const mortal = (self: Member) =>
    new Proxy(lab.network.ringOf(self), {
      get: (ring, verb) => (isOver && dead.includes(self) ? silent : Reflect.get(ring, verb)),
    })
  const services = new Map(all.map((self) => [self, lab.service(self, [all[0]!, all[5]!], [], mortal(self), 16)]))
  for (const one of services.values()) await one.start()
  await lab.pass(300_000)
  // Only now, so that nobody but those who are responsible for it has ever had it.
  lab.share(services.get(alive[3]!)!, [film])
  await lab.pass(10_000)
  const find = async () => {
    const found = await lab.clock.run(services.get(alive[0]!)!.find('name', name, never))
    return found.records.map(({ provider }) => provider.peer)
  }
  expect(await find()).toEqual([alive[3]!.peer])
  for (const one of dead) lab.network.kill(one)
  isOver = true
  await lab.pass(120_000)
  expect(await find()).toEqual([alive[3]!.peer])
})

test('leaves in time in whatever state: before it has joined, where nobody answers, with much to hand on', async () => {
  const lab = new Lab()
  const hanging = (signal: AbortSignal) =>
    new Promise<never>((_, reject) =>
      signal.addEventListener('abort', () => reject(new NetworkError('cancelled', 'cancelled')), { once: true }),
    )
  const dead: RingNetwork = {
    stabilize: (_, signal) => hanging(signal),
    step: (_, __, signal) => hanging(signal),
    find: (_, __, ___, signal) => hanging(signal),
    store: (_, __, ___, signal) => hanging(signal),
    leave: async () => {},
  }
  const joining = lab.service(c, [a, b], [film], dead)
  expect(await lab.stop(lab.service(a))).toBeLessThan(100)
  await joining.start()
  await lab.pass(500)
  expect(await lab.stop(joining)).toBeLessThan(100)
  const many = Array.from({ length: 2000 }, (_, i): FileEntry => {
    const id = i.toString(16).padStart(64, '0') as ContentId
    return { name: `${i}.bin` as FileName, id, size: 1 }
  })
  let hangs = false
  const ring = lab.network.ringOf(a)
  const store: RingNetwork['store'] = (to, records, withdraw, signal) =>
    hangs ? hanging(signal) : ring.store(to, records, withdraw, signal)
  const [one, two] = [lab.service(a, [], many, { ...ring, store }), lab.service(b, [a])]
  await one.start()
  await two.start()
  await lab.pass(20_000)
  hangs = true
  expect(await lab.stop(one)).toBeLessThan(2500)
  await lab.stop(two)
})

test('its state counts what it is responsible for, and its metrics do not', async () => {
  const lab = new Lab()
  const service = lab.service(a, [], [film])
  const other = lab.service(b, [a])
  await service.start()
  await other.start()
  await lab.pass(10_000)
  const { records } = service.status()
  expect(records).toMatchObject({ held: 2, published: 2, unpublished: 0 })
  expect(records.own + other.status().records.own).toBe(2)
  expect(service.load).toMatchObject({ members: 2, successors: 1, held: 2, published: 2 })
  await lab.stop(service)
  await lab.stop(other)
})
