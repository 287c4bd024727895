import { describe, expect, it, onTestFinished } from 'vitest'
import type { PeerId } from '../ids.ts'
import { parsePeerId } from '../ids.ts'
import { anEvent, anOffer, MemoryLog, someEvents } from './bus.fixture.ts'
import type { BusDeps, EventBus } from './bus.ts'
import { EVENT_LIMITS, type NetworkEvent } from './event.ts'
import { MAIL_BYTES, type Mail } from './mail.ts'

/** What carries events and mail in one test, seen from outside. It cleans up after itself by `onTestFinished`. */
export interface Carrier {
  /** A bus of that peer, not started. Another for the same peer only when the one before was stopped or `killed`. */
  bus(peer: PeerId, deps: BusDeps): EventBus | Promise<EventBus>
  /** Ends a bus as `kill -9` would: nothing that it had in hand is acknowledged. */
  kill(bus: EventBus): Promise<void>
  /** The carrier is away for everybody, its storage stays. */
  interrupt(): Promise<void>
  restore(): Promise<void>
  /** Puts a message where the bus of that peer hears events (and nothing of it where `text` can't even be there). */
  inject(peer: PeerId, text: string): Promise<void>
}

const PATIENCE = { timeout: 30_000, interval: 20 }
const TEST_MS = 60_000
const never = new AbortController().signal

/** A process on the bus, with what it has heard. */
class Member {
  readonly id: PeerId
  readonly log = new MemoryLog()
  readonly mail: Mail[] = []
  gaps = 0
  /** called before mail is taken: may throw, or wait */
  beforeMail: (() => Promise<void> | void) | undefined
  bus!: EventBus
  readonly #carrier: Carrier

  constructor(carrier: Carrier, id: string) {
    this.#carrier = carrier
    this.id = parsePeerId(id)
  }

  /** A bus as after a start of the process: the log and the mail that were taken are still there. */
  async start(): Promise<this> {
    const bus = await this.#carrier.bus(this.id, {
      log: this.log,
      onMail: async (mail) => {
        await this.beforeMail?.()
        this.mail.push(...mail)
      },
      onGap: () => this.gaps++,
    })
    this.bus = bus
    onTestFinished(() => bus.stop())
    await bus.start()
    return this
  }

  async connected(): Promise<this> {
    await expect.poll(() => this.bus.state, PATIENCE).toMatchObject({ state: 'connected', problem: null })
    return this
  }

  /** Publishes as a publisher does: until it is taken. */
  async publish(events: readonly NetworkEvent[]): Promise<void> {
    await expect.poll(() => this.bus.publish(events, never).then(() => 'taken', String), PATIENCE).toBe('taken')
  }

  async send(mail: Mail): Promise<void> {
    await expect.poll(() => this.bus.send(mail, never).then(() => 'taken', String), PATIENCE).toBe('taken')
  }

  hears(origin: string, seqs: readonly number[]): Promise<void> {
    return expect.poll(() => this.log.seqs(origin), PATIENCE).toEqual(seqs)
  }

  /** The ids of the mail that it took, each once. */
  async gets(ids: readonly string[]): Promise<void> {
    await expect.poll(() => [...new Set(this.mail.map((mail) => mail.id))].sort(), PATIENCE).toEqual([...ids].sort())
  }
}

const numbers = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i)

/** What holds for everything that carries events and mail. `open` makes a carrier of its own for each test. */
export function busContract(name: string, open: () => Promise<Carrier>): void {
  const setUp = async (...ids: string[]) => {
    const carrier = await open()
    const members = []
    for (const id of ids) members.push(await (await new Member(carrier, id).start()).connected())
    return { carrier, members: members as [Member, Member, Member] }
  }

  describe(`${name}: events`, () => {
    it('every process hears every event once, its own included, in the order of each origin', {
      timeout: TEST_MS,
    }, async () => {
      const { members } = await setUp('P1', 'P2', 'P3')
      const [p1, p2, p3] = members
      await Promise.all([p1.publish(someEvents('P1', 1, 300)), p2.publish(someEvents('P2', 1, 300))])
      await p1.publish(someEvents('P1', 301, 400))
      for (const member of [p1, p2, p3]) {
        await member.hears('P1', numbers(1, 400))
        await member.hears('P2', numbers(1, 300))
        expect(member.log.events.length).toBe(700)
      }
    })

    it('an event arrives as it was published', { timeout: TEST_MS }, async () => {
      const {
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      const event = anEvent('P1', 1)
      await p1.publish([event])
      await p2.hears('P1', [1])
      expect(p2.log.events[0]).toEqual(event)
    })

    it('more events than fit in one batch are published at once', { timeout: TEST_MS }, async () => {
      const {
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      await p1.publish(someEvents('P1', 1, EVENT_LIMITS.batch + 10))
      await p2.hears('P1', numbers(1, EVENT_LIMITS.batch + 10))
    })

    it('the same event published twice is kept once', { timeout: TEST_MS }, async () => {
      const {
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      await p1.publish(someEvents('P1', 1, 3))
      await p1.publish(someEvents('P1', 1, 4))
      await p2.hears('P1', [1, 2, 3, 4])
      expect(p2.log.events.length).toBe(4)
    })

    it('what was published while a process was away is there when it is back', { timeout: TEST_MS }, async () => {
      const {
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      await p1.publish(someEvents('P1', 1, 10))
      await p2.hears('P1', numbers(1, 10))
      await p2.bus.stop()
      await p1.publish(someEvents('P1', 11, 700))
      await p2.start()
      await p2.hears('P1', numbers(1, 700))
      expect(p2.log.events.length).toBe(700)
    })

    it('what was not kept comes again, and nothing is lost of what follows', { timeout: TEST_MS }, async () => {
      const {
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      let failures = 0
      p2.log.beforeKeep = () => {
        if (failures++ < 2) throw new Error('the disk is full')
      }
      await p1.publish(someEvents('P1', 1, 20))
      await p1.publish(someEvents('P1', 21, 40))
      await p2.hears('P1', numbers(1, 40))
      expect(failures).toBeGreaterThan(2)
    })

    it('a process killed before it had kept an event hears it after its next start', { timeout: TEST_MS }, async () => {
      const {
        carrier,
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      const killed = new AbortController()
      let hearing = 0
      p2.log.beforeKeep = () => {
        hearing++
        return new Promise((_, reject) => killed.signal.addEventListener('abort', () => reject(new Error('killed'))))
      }
      await p1.publish(someEvents('P1', 1, 5))
      await expect.poll(() => hearing, PATIENCE).toBeGreaterThan(0)
      await carrier.kill(p2.bus)
      killed.abort()
      p2.log.beforeKeep = undefined
      await p2.start()
      await p2.hears('P1', [1, 2, 3, 4, 5])
    })

    it('an event that is too long or not valid is refused by its id, and those after it pass', {
      timeout: TEST_MS,
    }, async () => {
      const {
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      const long = {
        ...anEvent('P1', 1, { id: 'long' }),
        type: 'network.degraded',
        data: { before: 'a', level: 'b', text: 'é'.repeat(EVENT_LIMITS.bytes) },
      } as NetworkEvent
      const failure = await p1.bus.publish([long], never).catch((error) => error)
      expect(['too_large', 'invalid']).toContain(failure.code)
      expect(failure.details.id).toBe('long')
      const wrong = { ...anEvent('P1', 2, { id: 'wrong' }), seq: -1 }
      await expect(p1.bus.publish([wrong], never)).rejects.toMatchObject({ code: 'invalid', details: { id: 'wrong' } })
      await p1.publish([anEvent('P1', 3)])
      await p2.hears('P1', [3])
    })

    it('what is malformed on its way changes nothing and stops nothing', { timeout: TEST_MS }, async () => {
      const {
        carrier,
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      const event = anEvent('P1', 99)
      for (const text of [
        '',
        'no JSON',
        'null',
        '[]',
        '{}',
        JSON.stringify({ ...event, v: 2 }),
        JSON.stringify({ ...event, type: 'file.exploded' }),
        JSON.stringify({ ...event, seq: 'one' }),
        JSON.stringify({ ...event, data: { ...event.data, name: '../../etc/passwd' } }),
        JSON.stringify({ ...event, id: 'x'.repeat(5000) }),
        '['.repeat(8000),
        `{"__proto__":{"v":1},"type":"file.added"}`,
      ])
        await carrier.inject(p2.id, text)
      await p1.publish([anEvent('P1', 1)])
      await p2.hears('P1', [1])
      expect(p2.log.events.length).toBe(1)
      expect(p2.bus.state.state).toBe('connected')
    })
  })

  describe(`${name}: the carrier is away`, () => {
    it('start returns, publishing is refused as unavailable in words, and all goes on by itself when it is back', {
      timeout: TEST_MS,
    }, async () => {
      const carrier = await open()
      await carrier.interrupt()
      const [p1, p2] = [await new Member(carrier, 'P1').start(), await new Member(carrier, 'P2').start()]
      await expect(p1.bus.publish(someEvents('P1', 1, 3), never)).rejects.toMatchObject({ code: 'unavailable' })
      await expect(p1.bus.send(anOffer('P1', 'P2', 1), never)).rejects.toMatchObject({ code: 'unavailable' })
      await expect
        .poll(() => p1.bus.state, PATIENCE)
        .toMatchObject({ state: 'unreachable', problem: expect.stringMatching(/\w+ \w+/) })
      await carrier.restore()
      await Promise.all([p1.connected(), p2.connected()])
      await p1.publish(someEvents('P1', 1, 3))
      await p2.hears('P1', [1, 2, 3])
    })

    it('while it was there before: nothing acknowledged is lost, and all goes on', { timeout: TEST_MS }, async () => {
      const {
        carrier,
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      await p1.publish(someEvents('P1', 1, 100))
      await p1.send(anOffer('P1', 'P2', 1))
      await carrier.interrupt()
      await expect
        .poll(
          () =>
            p1.bus.publish([anEvent('P1', 101)], never).then(
              () => '',
              (error) => error.code,
            ),
          PATIENCE,
        )
        .toBe('unavailable')
      await carrier.restore()
      await p1.publish(someEvents('P1', 101, 200))
      await p2.hears('P1', numbers(1, 200))
      await p2.gets(['P1.mail.1'])
    })

    it('stop is quick, whether the carrier is there or not', { timeout: TEST_MS }, async () => {
      const {
        carrier,
        members: [p1, p2, p3],
      } = await setUp('P1', 'P2', 'P3')
      const stopped = async (member: Member) => {
        const since = performance.now()
        await member.bus.stop()
        return performance.now() - since
      }
      expect(await stopped(p1)).toBeLessThan(2500)
      await carrier.interrupt()
      expect(await stopped(p2)).toBeLessThan(2500)
      await expect.poll(() => p3.bus.state.state, PATIENCE).toBe('unreachable')
      expect(await stopped(p3)).toBeLessThan(2500)
      await expect(p3.bus.publish([anEvent('P3', 1)], never)).rejects.toMatchObject({ code: /unavailable|cancelled/ })
    })

    it('publishing that is called off ends at once', { timeout: TEST_MS }, async () => {
      const { members } = await setUp('P1')
      await expect(members[0].bus.publish(someEvents('P1', 1, 5), AbortSignal.abort())).rejects.toMatchObject({
        code: 'cancelled',
      })
    })
  })

  describe(`${name}: mail`, () => {
    it('reaches its recipient, as it was sent, and nobody else', { timeout: TEST_MS }, async () => {
      const {
        members: [p1, p2, p3],
      } = await setUp('P1', 'P2', 'P3')
      const offer = anOffer('P1', 'P2', 1)
      const receipt: Mail = {
        ...{ v: 1, id: 'r1', from: p2.id, to: p1.id, sent: offer.sent, expires: offer.expires },
        ...{ kind: 'receipt', offer: offer.id, state: 'taken', reason: null },
      }
      await p1.send(offer)
      await p2.gets([offer.id])
      await p2.send(receipt)
      await p1.gets([receipt.id])
      await p1.send(anOffer('P1', 'P3', 2))
      await p3.gets(['P1.mail.2'])
      expect(p1.mail).toEqual([receipt])
      expect(p2.mail).toEqual([offer])
    })

    it('waits for a recipient that is away, and for one that has never been there', { timeout: TEST_MS }, async () => {
      const {
        carrier,
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      await p2.bus.stop()
      await p1.send(anOffer('P1', 'P2', 1))
      await p1.send(anOffer('P1', 'P3', 2))
      await p1.send(anOffer('P1', 'P3', 3))
      await p2.start()
      await p2.gets(['P1.mail.1'])
      const p3 = await new Member(carrier, 'P3').start()
      await p3.gets(['P1.mail.2', 'P1.mail.3'])
    })

    it('comes again where it could not be taken', { timeout: TEST_MS }, async () => {
      const {
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      let failures = 0
      p2.beforeMail = () => {
        if (failures++ < 2) throw new Error('the disk is full')
      }
      await p1.send(anOffer('P1', 'P2', 1))
      await p1.send(anOffer('P1', 'P2', 2))
      await p2.gets(['P1.mail.1', 'P1.mail.2'])
      expect(failures).toBeGreaterThan(2)
    })

    it('comes again where its recipient was killed before it had taken it', { timeout: TEST_MS }, async () => {
      const {
        carrier,
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      const killed = new AbortController()
      let hearing = 0
      p2.beforeMail = () => {
        hearing++
        return new Promise((_, reject) => killed.signal.addEventListener('abort', () => reject(new Error('killed'))))
      }
      await p1.send(anOffer('P1', 'P2', 1))
      await expect.poll(() => hearing, PATIENCE).toBeGreaterThan(0)
      await carrier.kill(p2.bus)
      killed.abort()
      p2.beforeMail = undefined
      expect(p2.mail).toEqual([])
      await p2.start()
      await p2.gets(['P1.mail.1'])
    })

    it('does not come again once it was taken', { timeout: TEST_MS }, async () => {
      const {
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      await p1.send(anOffer('P1', 'P2', 1))
      await p2.gets(['P1.mail.1'])
      await p2.bus.stop()
      p2.mail.length = 0
      await p2.start()
      await p1.send(anOffer('P1', 'P2', 2))
      await p2.gets(['P1.mail.2'])
    })

    it('that was sent twice may come twice, under the same id', { timeout: TEST_MS }, async () => {
      const {
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      await p1.send(anOffer('P1', 'P2', 1))
      await p1.send(anOffer('P1', 'P2', 1))
      await p1.send(anOffer('P1', 'P2', 2))
      await p2.gets(['P1.mail.1', 'P1.mail.2'])
      expect(p2.mail.length).toBeLessThanOrEqual(3)
    })

    it('that has expired is not delivered', { timeout: TEST_MS }, async () => {
      const {
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      await p2.bus.stop()
      const soon = Date.now() + 1500
      await p1.send(anOffer('P1', 'P2', 1, { expires: new Date(soon).toISOString() }))
      await p1.bus
        .send(anOffer('P1', 'P2', 2, { expires: new Date(Date.now() - 1000).toISOString() }), never)
        .catch(() => {})
      await p1.send(anOffer('P1', 'P2', 3))
      await expect.poll(() => Date.now(), PATIENCE).toBeGreaterThan(soon)
      await p2.start()
      await p2.gets(['P1.mail.3'])
    })

    it('that is too long or not valid is refused', { timeout: TEST_MS }, async () => {
      const {
        members: [p1, p2],
      } = await setUp('P1', 'P2')
      const long = {
        ...anOffer('P1', 'P2', 1),
        kind: 'receipt',
        offer: 'x',
        state: 'refused',
        reason: 'é'.repeat(MAIL_BYTES),
      }
      await expect(p1.bus.send(long as unknown as Mail, never)).rejects.toMatchObject({ code: /too_large|invalid/ })
      await expect(p1.bus.send({ ...anOffer('P1', 'P2', 1), to: '../P2' as PeerId }, never)).rejects.toMatchObject({
        code: 'invalid',
      })
      await p1.send(anOffer('P1', 'P2', 2))
      await p2.gets(['P1.mail.2'])
    })
  })
}
