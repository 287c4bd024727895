import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { FileName, PeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { idOf } from '../transfer/manager.fixture.ts'
import {
  DAY,
  FILM,
  HOUR,
  MINUTE,
  offerMail,
  Post,
  receiptMail,
  SECOND,
  START,
  settled,
  TestPeer,
} from './mailbox.fixture.ts'
import { OfferBook } from './offer-book.ts'

const [P1, P2, P3] = ['P1', 'P2', 'P3'] as PeerId[] as [PeerId, PeerId, PeerId]
const content = idOf('a')
const AWAY = new NetworkError('unavailable', 'the Maestro does not answer')

type Options = ConstructorParameters<typeof TestPeer>[3]

/** P1 shares a film; P2 is there, and can get it. */
async function pair(options: Options = {}) {
  const post = new Post()
  const clock = new ManualClock()
  const p1 = new TestPeer(P1, post, clock)
  const p2 = new TestPeer(P2, post, clock, options)
  p1.share(FILM, content)
  p2.network.offer(P1, FILM, content)
  await p1.mailbox.start()
  await p2.mailbox.start()
  await settled()
  return { post, clock, p1, p2 }
}

/** What waits is handed over, here and there, until nothing more comes of it. */
async function exchange(post: Post, ...peers: TestPeer[]): Promise<void> {
  for (let round = 0; round < 4; round++) {
    await settled()
    for (const peer of peers) await post.deliver(peer)
  }
  await settled()
}

describe('an offer', () => {
  test('is sending, queued, taken and delivered', async () => {
    const { post, p1, p2 } = await pair()
    p2.network.automatic = false
    expect(p1.mailbox.offer({ to: [P2], id: content })).toMatchObject([
      { peer: P2, name: FILM, id: content, size: 400, state: 'sending', problem: null },
    ])
    await settled()
    expect(p1.sent()?.state).toBe('queued')
    await exchange(post, p2, p1)
    expect([p1.sent()?.state, p2.received()?.state]).toEqual(['taken', 'taken'])
    expect(p2.network.landing.size).toBe(0)
    p2.network.runs[0]!.begin(400).finish()
    await exchange(post, p1)
    expect([p1.sent()?.state, p2.received()?.state]).toEqual(['delivered', 'delivered'])
    expect(p2.network.landing).toEqual(new Map([[FILM, content]]))
  })

  test.each([
    ['a week', 7 * DAY],
    ['a month', 31 * DAY],
  ])('waits for a peer that is away for %s', async (_, away) => {
    const { post, clock, p1, p2 } = await pair()
    await p2.mailbox.stop()
    p1.mailbox.offer({ to: [P2], id: content, expires_s: (60 * DAY) / 1000 })
    for (let passed = 0; passed < away; passed += 6 * HOUR) {
      clock.advance(6 * HOUR)
      await settled()
    }
    expect(p1.sent()?.state).toBe('queued')
    // One message, however often it was sent.
    expect(post.box(P2).size).toBe(1)
    await p2.restart()
    await exchange(post, p2, p1)
    expect(p1.sent()?.state).toBe('delivered')
    expect(p2.network.runs).toHaveLength(1)
  })

  test('needs a content that is shared here, and another peer', async () => {
    const { p1 } = await pair()
    expect(() => p1.mailbox.offer({ to: [P2], id: idOf('b') })).toThrow(
      /does not share the content bbbbbbbbbbbb….*first/,
    )
    expect(() => p1.mailbox.offer({ to: [P2, P1], id: content })).toThrow(/P1 is this peer itself/)
    expect(p1.mailbox.list().sent).toEqual([])
  })

  test('that is under way is joined; one that has ended is made anew', async () => {
    const { post, p1, p2 } = await pair()
    const [first] = p1.mailbox.offer({ to: [P2, P2, P3], id: content })
    expect(p1.mailbox.offer({ to: [P2], id: content })).toMatchObject([{ offer: first?.offer }])
    expect(p1.mailbox.offer({ to: [P2], id: content, name: 'b.mkv' as FileName })[0]?.offer).not.toBe(first?.offer)
    expect(p1.mailbox.list().sent).toHaveLength(3)
    await exchange(post, p2, p1)
    expect(p1.mailbox.offer({ to: [P2], id: content })[0]).toMatchObject({ state: 'sending' })
  })

  test('is sent again at growing pauses until it is answered for good', async () => {
    const { post, clock, p1 } = await pair()
    p1.mailbox.offer({ to: [P2], id: content })
    const times: number[] = []
    for (let minute = 0; minute < 5000; minute += 10) {
      await settled()
      for (const _ of post.accepted.splice(0)) times.push(minute)
      clock.advance(10 * MINUTE)
    }
    expect(times).toEqual([0, 10, 30, 70, 150, 310, 630, 1270, 2550, 3990])
    await p1.mailbox.onMail([receiptMail(P2, p1.sent()!.offer, { state: 'delivered' })])
    clock.advance(10 * DAY)
    await settled()
    expect(post.accepted).toEqual([])
  })

  test('is expired when its time is over; a word that it arrived before that still counts', async () => {
    const { clock, p1 } = await pair()
    p1.mailbox.offer({ to: [P2, P3], id: content, expires_s: 3600 })
    await settled()
    clock.advance(HOUR + MINUTE)
    await settled()
    expect(p1.mailbox.list().sent.map(({ state }) => state)).toEqual(['expired', 'expired'])
    const { offer } = p1.sent(P2)!
    await p1.mailbox.onMail([receiptMail(P2, offer, { state: 'taken' })])
    expect(p1.sent(P2)?.state).toBe('expired')
    await p1.mailbox.onMail([receiptMail(P2, offer, { state: 'delivered' })])
    expect(p1.sent(P2)?.state).toBe('delivered')
  })

  test('says where its content is not shared here any more', async () => {
    const { p1 } = await pair()
    p1.mailbox.offer({ to: [P2], id: content })
    await settled()
    p1.network.landing.clear()
    expect(p1.sent()).toMatchObject({ state: 'queued', problem: expect.stringContaining('does not share it any more') })
  })
})

describe('the list', () => {
  test('begins with what is under way, ends with what ended latest, and tells how much there is', async () => {
    const { clock, p1 } = await pair()
    await p1.mailbox.stop()
    const offer = (name: string) => p1.mailbox.offer({ to: [P2], id: content, name: name as FileName })[0]!
    const names = Array.from({ length: 1100 }, (_, i) => `${i}`)
    const made = names.map(offer)
    const end = (i: number) => receiptMail(P2, made[i]!.offer, { state: 'delivered' })
    await p1.mailbox.onMail(
      names
        .map((_, i) => i)
        .filter((i) => i > 1)
        .map(end),
    )
    clock.advance(MINUTE)
    await p1.mailbox.onMail([end(1)])
    const { sent, sent_total, received_total } = p1.mailbox.list()
    expect(sent).toHaveLength(1000)
    expect(sent.slice(0, 3).map(({ name }) => name)).toEqual(['0', '1', '1099'])
    expect([sent_total, received_total]).toEqual([1100, 0])
  })

  test('of just some has them wherever they stand, and none of others', async () => {
    const { p1 } = await pair()
    await p1.mailbox.stop()
    const names = Array.from({ length: 1100 }, (_, i) => `${i}` as FileName)
    const [first] = names.map((name) => p1.mailbox.offer({ to: [P2], id: content, name })[0]!)
    await p1.mailbox.onMail([offerMail(P2, { id: first!.offer, to: P1 })])
    const { sent, received } = p1.mailbox.list({ sent: [first!.offer, 'unknown'] })
    expect(sent.map(({ name }) => name)).toEqual(['0'])
    expect(received).toEqual([])
  })
})

describe('a receipt', () => {
  test('is believed only of the peer that the offer was for', async () => {
    const { p1 } = await pair()
    const [offer] = p1.mailbox.offer({ to: [P2], id: content })
    await p1.mailbox.onMail([receiptMail(P3, offer!.offer, { state: 'delivered' }), receiptMail(P2, 'unknown')])
    expect(p1.sent()?.state).toBe('sending')
  })

  test('never leads back, in whatever order it comes', async () => {
    const { p1 } = await pair()
    const { offer } = p1.mailbox.offer({ to: [P2], id: content })[0]!
    const told = async (state: 'taken' | 'delivered' | 'refused') => {
      await p1.mailbox.onMail([receiptMail(P2, offer, { state, reason: state === 'refused' ? 'no' : null })])
      return p1.sent()?.state
    }
    // Before the offer is known to be in the mailbox.
    expect(await told('taken')).toBe('taken')
    await settled()
    expect(p1.sent()?.state).toBe('taken')
    expect(await told('delivered')).toBe('delivered')
    expect(await told('taken')).toBe('delivered')
    expect(await told('refused')).toBe('delivered')
  })

  test('has its text made safe', async () => {
    const { p1 } = await pair()
    const { offer } = p1.mailbox.offer({ to: [P2], id: content })[0]!
    await p1.mailbox.onMail([receiptMail(P2, offer, { state: 'refused', reason: '\u001b[2Jno\n' })])
    expect(p1.sent()).toMatchObject({ state: 'refused', problem: '\\u{1b}[2Jno\\u{a}' })
  })
})

describe('where the bus', () => {
  test('is away, offers wait, say why, and go out as soon as it is back', async () => {
    const { post, clock, p1 } = await pair()
    post.fault = () => AWAY
    p1.mailbox.offer({ to: [P2, P3], id: content })
    await settled()
    for (const offer of p1.mailbox.list().sent)
      expect(offer).toMatchObject({ state: 'sending', problem: 'the Maestro does not answer' })
    post.fault = () => undefined
    p1.mailbox.nudge()
    await settled()
    expect(p1.mailbox.list().sent.map(({ state, problem }) => [state, problem])).toEqual([
      ['queued', null],
      ['queued', null],
    ])
    // And by themselves, a little later.
    post.fault = () => AWAY
    p1.mailbox.offer({ to: [P2], id: content, name: 'b.mkv' as FileName })
    await settled()
    post.fault = () => undefined
    clock.advance(2 * SECOND)
    await settled()
    expect(p1.sent()?.state).toBe('queued')
  })

  test('takes no more for one mailbox, others get theirs', async () => {
    const { post, clock, p1 } = await pair()
    post.fault = ({ to }) =>
      to === P2 ? new NetworkError('limited', 'the mailbox of P2 is full', { retry_ms: 60_000 }) : undefined
    p1.mailbox.offer({ to: [P2, P3], id: content })
    await settled()
    expect(p1.sent(P3)?.state).toBe('queued')
    expect(p1.sent(P2)).toMatchObject({ state: 'sending', problem: 'the mailbox of P2 is full' })
    post.fault = () => undefined
    clock.advance(30 * SECOND)
    await settled()
    expect(p1.sent(P2)?.state).toBe('sending')
    clock.advance(40 * SECOND)
    await settled()
    expect(p1.sent(P2)).toMatchObject({ state: 'queued', problem: null })
  })

  test('will never take it, the offer ends so', async () => {
    const { post, p1 } = await pair()
    post.fault = () => new NetworkError('invalid', 'there can be no such mailbox')
    p1.mailbox.offer({ to: [P2], id: content })
    await settled()
    expect(p1.sent()).toMatchObject({ state: 'refused', problem: 'there can be no such mailbox' })
  })

  test('is away, receipts wait', async () => {
    const { post, clock, p2 } = await pair()
    post.fault = () => AWAY
    await p2.mailbox.onMail([offerMail(P1)])
    await settled()
    expect(p2.received()?.state).toBe('delivered')
    post.fault = () => undefined
    clock.advance(10 * SECOND)
    await settled()
    expect(post.sent('receipt')).toMatchObject([{ to: P1, offer: 'o1', state: 'delivered' }])
  })
})

describe('what is offered to this peer', () => {
  test('however often it comes is fetched once, and answered each time', async () => {
    const { post, p2 } = await pair()
    await p2.mailbox.onMail([offerMail(P1), offerMail(P1)])
    await settled()
    await p2.mailbox.onMail([offerMail(P1)])
    await settled()
    expect(p2.network.runs).toHaveLength(1)
    const receipts = post.sent('receipt')
    expect(receipts).toMatchObject([{ state: 'taken' }, { state: 'delivered' }, { state: 'delivered' }])
    expect(receipts[1]?.id).toBe(receipts[2]?.id)
  })

  test('of two peers may have the same id', async () => {
    const { p2 } = await pair()
    p2.network.offer(P3, 'b.mkv', idOf('b'))
    await p2.mailbox.onMail([offerMail(P1), offerMail(P3, { name: 'b.mkv' as FileName, content: idOf('b') })])
    await settled()
    expect(p2.mailbox.list().received.map(({ peer, state }) => [peer, state])).toEqual([
      [P3, 'delivered'],
      [P1, 'delivered'],
    ])
  })

  test('is delivered at once where it is shared here under this name', async () => {
    const { p2 } = await pair()
    p2.share(FILM, content)
    await p2.mailbox.onMail([offerMail(P1)])
    await settled()
    expect(p2.received()?.state).toBe('delivered')
    expect(p2.transfers.list()).toEqual([])
  })

  test('is refused where its name has another content, which stays', async () => {
    const { post, p2 } = await pair()
    p2.share(FILM, idOf('c'))
    await p2.mailbox.onMail([offerMail(P1)])
    await settled()
    expect(post.sent('receipt').at(-1)).toMatchObject({
      state: 'refused',
      reason: `it shares another content as "${FILM}", which stays as it is: send yours under another name`,
    })
    expect(p2.network.landing.get(FILM)).toBe(idOf('c'))
  })

  test('is refused by a peer that takes no uploads', async () => {
    const { post, p2 } = await pair({ accept: false })
    await p2.mailbox.onMail([offerMail(P1)])
    await settled()
    expect(post.sent('receipt')).toMatchObject([{ state: 'refused', reason: 'it takes no files from others' }])
    expect(p2.network.lookups).toEqual([])
  })

  test('is left aside where it is for somebody else, from itself, or too late', async () => {
    const { post, p2 } = await pair()
    const expires = new Date(START - 1).toISOString()
    await p2.mailbox.onMail([offerMail(P1, { to: P3 }), offerMail(P2), offerMail(P1, { expires })])
    await settled()
    expect(p2.mailbox.list().received).toEqual([])
    expect(post.accepted).toEqual([])
  })

  test('is simulated by a peer in dummy mode, and its sender hears so', async () => {
    const { post, p2 } = await pair({ mode: 'dummy' })
    await p2.mailbox.onMail([offerMail(P1)])
    await settled()
    expect(post.sent('receipt').at(-1)).toMatchObject({ state: 'delivered', reason: 'simulated' })
    expect(p2.network.landing.size).toBe(0)
  })

  test('is refused once its user cancels the transfer', async () => {
    const { post, p2 } = await pair()
    p2.network.automatic = false
    await p2.mailbox.onMail([offerMail(P1)])
    await settled()
    p2.transfers.cancel(p2.transfers.list()[0]!.transfer)
    await settled()
    expect(post.sent('receipt').at(-1)).toMatchObject({ state: 'refused', reason: 'its user has cancelled it' })
  })

  test.each([
    ['more', 1],
    ['fewer', 10_000],
  ])('is refused where it has %s bytes than it was offered with', async (_, size) => {
    const { post, clock, p2 } = await pair()
    p2.network.automatic = false
    await p2.mailbox.onMail([offerMail(P1, { size })])
    await settled()
    p2.network.runs[0]!.begin(400)
    clock.advance(SECOND)
    await settled()
    expect(p2.transfers.list()[0]).toMatchObject({ state: 'cancelled' })
    expect(post.sent('receipt').at(-1)).toMatchObject({
      state: 'refused',
      reason: `it has 400 bytes, and was offered as of ${size}`,
    })
  })

  test('beyond 10,000 of one sender under way is left until it comes again, while others are taken', async () => {
    const { post, p2 } = await pair()
    await p2.mailbox.stop()
    p2.unknown.add(idOf('f'))
    const spam = (i: number) => offerMail(P1, { id: `o${i}`, name: `${i}` as FileName, content: idOf('f') })
    await p2.mailbox.onMail(Array.from({ length: 10_001 }, (_, i) => spam(i)))
    await p2.mailbox.onMail([offerMail(P3)])
    expect(p2.mailbox.list()).toMatchObject({ received_total: 10_001, received: { 0: { peer: P3, state: 'taken' } } })
    await p2.mailbox.onMail([spam(10_000)])
    expect(p2.mailbox.list().received_total).toBe(10_001)
    // One that is here already makes room.
    p2.share('0' as FileName, idOf('f'))
    await p2.restart()
    await p2.mailbox.stop()
    await p2.mailbox.onMail([spam(10_000)])
    expect(p2.received()).toMatchObject({ offer: 'o10000', state: 'taken' })
    expect(post.sent('receipt').filter((mail) => mail.kind === 'receipt' && mail.state === 'refused')).toEqual([])
  })
})

test('where 20,000 wait, of the sender of most the one that was tried longest ago makes room', async () => {
  const { p2 } = await pair()
  p2.unknown.add(idOf('f'))
  const spam = (i: number) => offerMail(`S${i % 10}`, { id: `o${i}`, name: `${i}` as FileName, content: idOf('f') })
  await p2.mailbox.onMail(Array.from({ length: 10 }, (_, i) => spam(i)))
  await settled()
  await p2.mailbox.stop()
  await p2.mailbox.onMail(Array.from({ length: 19_990 }, (_, i) => spam(i + 10)))
  await p2.mailbox.onMail([offerMail(P1)])
  expect(p2.received()).toMatchObject({ peer: P1, state: 'taken' })
  expect(p2.mailbox.list().received_total).toBe(20_000)
})

describe('while nobody has it, an offer', () => {
  async function vain() {
    const all = await pair()
    all.p2.network.offers.length = 0
    await all.p2.mailbox.onMail([offerMail(P1)])
    await settled()
    return all
  }

  test('begins no transfer as long as nobody is known to have it', async () => {
    const { clock, p2 } = await pair()
    p2.unknown.add(content)
    await p2.mailbox.onMail([offerMail(P1)])
    await settled()
    expect(p2.transfers.list()).toEqual([])
    expect(p2.received()).toMatchObject({ state: 'taken', problem: 'nobody is known to have it at present' })
    p2.unknown.clear()
    clock.advance(6 * SECOND)
    await settled()
    expect(p2.received()?.state).toBe('delivered')
  })

  test('waits, says why, and is tried again at growing pauses', async () => {
    const { clock, p2 } = await vain()
    expect(p2.received()).toMatchObject({ state: 'taken', problem: expect.stringMatching(/nobody|no peer/i) })
    const pauses: number[] = []
    for (let second = 0, last = 0; second < 3600; second++) {
      if (p2.network.lookups.splice(0).length > 0) {
        pauses.push(second - last)
        last = second
      }
      clock.advance(SECOND)
      await settled()
    }
    const expected = [0, 5, 10, 20, 40, 80, 160, 320, 640, 1280]
    expect(pauses).toHaveLength(expected.length)
    for (const [i, pause] of expected.entries()) {
      expect(pauses[i]).toBeGreaterThanOrEqual(pause)
      expect(pauses[i]).toBeLessThanOrEqual(pause + 8)
    }
  })

  test('is fetched as soon as somebody is heard to have it, or its sender is back', async () => {
    const { clock, p2 } = await vain()
    clock.advance(HOUR)
    await settled()
    p2.network.lookups.length = 0
    p2.mailbox.nudge({ content: idOf('b') })
    p2.mailbox.nudge({ peer: P3 })
    clock.advance(5 * SECOND)
    await settled()
    expect(p2.network.lookups).toEqual([])
    p2.mailbox.nudge({ peer: P1 })
    await settled()
    expect(p2.network.lookups).toHaveLength(1)
    p2.network.offer(P3, FILM, content)
    p2.mailbox.nudge({ content })
    await settled()
    // However often something is heard, it has some seconds of rest.
    expect(p2.network.lookups).toHaveLength(1)
    clock.advance(9 * SECOND)
    await settled()
    expect(p2.received()?.state).toBe('delivered')
  })

  test('is tried once a minute at most where word of it keeps coming in vain', async () => {
    const { clock, p2 } = await vain()
    for (let second = 0; second < 3600; second += 2) {
      p2.mailbox.nudge({ peer: P1 })
      clock.advance(2 * SECOND)
      await settled()
    }
    expect(p2.network.lookups.length).toBeGreaterThan(55)
    expect(p2.network.lookups.length).toBeLessThan(70)
  })

  test('is tried again soon where some of it came', async () => {
    const { clock, p2 } = await vain()
    for (let minute = 0; minute < 120; minute++) {
      clock.advance(MINUTE)
      await settled()
    }
    p2.network.automatic = false
    p2.network.offer(P3, FILM, content)
    p2.mailbox.nudge({ content })
    clock.advance(MINUTE)
    await settled()
    p2.network.runs[0]!.begin(400).piece().fail(AWAY)
    await settled()
    expect(p2.received()).toMatchObject({ state: 'taken', problem: AWAY.message })
    clock.advance(6 * SECOND)
    await settled()
    expect(p2.network.runs).toHaveLength(2)
  })

  test('is tried until its time is over', async () => {
    const { post, clock, p2 } = await vain()
    clock.advance(31 * DAY)
    await settled()
    clock.advance(MINUTE)
    await settled()
    expect(p2.received()?.state).toBe('expired')
    p2.network.offer(P1, FILM, content)
    p2.mailbox.nudge()
    clock.advance(DAY)
    await settled()
    expect(p2.network.runs).toEqual([])
    expect(post.sent('receipt').map((mail) => mail.kind === 'receipt' && mail.state)).toEqual(['taken'])
  })
})

describe('of many offers', () => {
  async function many(count: number) {
    const all = await pair()
    const { p2 } = all
    p2.network.automatic = false
    const names = Array.from({ length: count }, (_, i) => `${i}.mkv` as FileName)
    for (const [i, name] of names.entries()) p2.network.offer(P1, name, idOf(String(i)))
    await p2.mailbox.onMail(names.map((name, i) => offerMail(P1, { id: `o${i}`, name, content: idOf(String(i)) })))
    await settled()
    return all
  }

  test('four are fetched at a time', async () => {
    const { p2 } = await many(6)
    expect(p2.network.runs).toHaveLength(4)
    p2.network.runs[2]!.begin(400).finish()
    await settled()
    expect(p2.network.runs).toHaveLength(5)
  })

  test('each sender has its turn', async () => {
    const { p2 } = await many(9)
    const [b, c] = ['b.mkv', 'c.mkv'] as FileName[]
    p2.network.offer(P3, b!, idOf('b'))
    p2.network.offer(P3, c!, idOf('c'))
    await p2.mailbox.onMail([offerMail(P3, { id: 'b', name: b!, content: idOf('b') })])
    await p2.mailbox.onMail([offerMail(P3, { id: 'c', name: c!, content: idOf('c') })])
    for (const run of p2.network.runs.slice(0, 4)) {
      run.begin(400).finish()
      await settled()
    }
    const begun = new Set(p2.transfers.list().map(({ file }) => file))
    expect(begun).toEqual(new Set(['0.mkv', '1.mkv', '2.mkv', '3.mkv', '4.mkv', b, '5.mkv', c]))
  })

  test('one that its user has paused leaves its place, and stays paused over a restart', async () => {
    const { clock, p2 } = await many(5)
    const [first] = p2.transfers.list().reverse()
    p2.transfers.pause(first!.transfer)
    clock.advance(SECOND)
    await settled()
    expect(p2.network.runs).toHaveLength(5)
    await p2.restart()
    await settled()
    expect(p2.transfers.list({ state: 'paused' })).toHaveLength(1)
    expect(p2.mailbox.list().received.every(({ state }) => state === 'taken')).toBe(true)
  })

  test('one whose providers are gone leaves its place after a minute, and is tried again', async () => {
    const { clock, p2 } = await many(5)
    const [first] = p2.network.runs
    first!.begin(400).piece()
    p2.network.offers.splice(0, 2)
    clock.advance(SECOND)
    await settled()
    first!.download.observer?.onWaiting?.(1000)
    clock.advance(SECOND)
    await settled()
    expect(p2.transfers.list({ state: 'waiting' })).toHaveLength(1)
    expect(p2.network.runs).toHaveLength(4)
    clock.advance(70 * SECOND)
    await settled()
    expect(p2.network.runs).toHaveLength(5)
    expect(p2.transfers.list({ state: 'waiting' })).toEqual([])
    expect(p2.mailbox.list().received.find(({ offer }) => offer === 'o0')).toMatchObject({
      state: 'taken',
      problem: 'nobody who has the rest of it is there',
    })
  })
})

describe('a process that ends', () => {
  test('between the record of an offer and its leaving the mailbox: it comes again, and is fetched once', async () => {
    const { post, p1, p2 } = await pair()
    p1.mailbox.offer({ to: [P2], id: content })
    await settled()
    const waiting = [...post.box(P2).values()]
    await p2.mailbox.onMail(waiting)
    await p2.restart()
    await exchange(post, p2, p1)
    expect(p1.sent()?.state).toBe('delivered')
    expect(p2.network.runs).toHaveLength(1)
  })

  test('between what was fetched and its receipt: the receipt goes out in the next', async () => {
    const { post, p2 } = await pair()
    post.fault = () => AWAY
    await p2.mailbox.onMail([offerMail(P1)])
    await settled()
    expect(p2.received()?.state).toBe('delivered')
    post.fault = () => undefined
    await p2.restart()
    await settled()
    expect(post.sent('receipt')).toMatchObject([{ offer: 'o1', state: 'delivered' }])
    expect(p2.network.runs).toHaveLength(1)
  })

  test('in the middle of a fetch: the next one goes on', async () => {
    const { p2 } = await pair()
    p2.network.automatic = false
    await p2.mailbox.onMail([offerMail(P1)])
    await settled()
    await p2.restart()
    await settled()
    p2.network.runs.at(-1)!.begin(400).finish()
    await settled()
    expect(p2.received()?.state).toBe('delivered')
  })

  test('between the record of an own offer and its sending: it is sent by the next', async () => {
    const { post, p1 } = await pair()
    post.fault = () => AWAY
    p1.mailbox.offer({ to: [P2], id: content })
    await p1.restart()
    post.fault = () => undefined
    p1.mailbox.nudge()
    await settled()
    expect(p1.sent()?.state).toBe('queued')
    expect(post.box(P2).size).toBe(1)
  })
})

describe('a disk that is full', () => {
  test('while an offer is fetched: it is delivered once there is room', async () => {
    const { post, clock, p2 } = await pair()
    p2.network.automatic = false
    await p2.mailbox.onMail([offerMail(P1)])
    await settled()
    p2.diskFull = true
    p2.network.runs[0]!.begin(400).finish()
    await settled()
    expect(p2.received()?.state).toBe('taken')
    clock.advance(6 * SECOND)
    await settled()
    p2.diskFull = false
    clock.advance(6 * SECOND)
    await settled()
    expect(p2.received()?.state).toBe('delivered')
    expect(post.sent('receipt').at(-1)).toMatchObject({ state: 'delivered' })
  })

  test('sends nothing over and over, and fetches once there is room', async () => {
    const { post, clock, p1, p2 } = await pair()
    p1.mailbox.offer({ to: [P2], id: content })
    p1.diskFull = true
    await settled()
    for (let turn = 0; turn < 50; turn++) await settled()
    expect(post.accepted.length).toBeLessThanOrEqual(1)
    p1.diskFull = false
    clock.advance(2 * SECOND)
    await settled()
    await p2.mailbox.onMail([offerMail(P1)])
    p2.diskFull = true
    for (let turn = 0; turn < 50; turn++) await settled()
    p2.diskFull = false
    clock.advance(6 * SECOND)
    await settled()
    expect(p2.received()?.state).toBe('delivered')
  })
})

describe('the book', () => {
  test('keeps none of a batch that can not be recorded whole', async () => {
    const { p2 } = await pair()
    const broken = { ...offerMail(P1, { id: 'o2' }), name: undefined as unknown as FileName }
    await expect(p2.mailbox.onMail([offerMail(P1), broken])).rejects.toThrow()
    expect(p2.mailbox.list().received).toEqual([])
  })

  test('that is damaged is moved aside', async () => {
    const { p2 } = await pair()
    const folder = join(p2.folder, 'damaged')
    OfferBook.open(folder, silentLog).close()
    writeFileSync(join(folder, 'mailbox.db'), 'no database at all '.repeat(1000))
    OfferBook.open(folder, silentLog).close()
    expect(readdirSync(folder).filter((name) => name.includes('damaged-'))).not.toEqual([])
    expect(existsSync(join(folder, 'mailbox.db'))).toBe(true)
  })

  test('of another process is refused in words', async () => {
    const { p2 } = await pair()
    expect(() => OfferBook.open(p2.folder, silentLog)).toThrow(
      /mailbox.db: another process uses it: is an agent running already\?/,
    )
  }, 10_000)

  test('forgets what ended a month ago, and of what ended the oldest where there is too much', async () => {
    const { clock, p2 } = await pair({ accept: false })
    const refused = Array.from({ length: 2500 }, (_, i) => offerMail(P1, { id: `o${i}` }))
    await p2.mailbox.onMail(refused)
    await p2.mailbox.sweep()
    expect(p2.mailbox.list().received).toHaveLength(1000)
    clock.advance(31 * DAY)
    await p2.mailbox.sweep()
    expect(p2.mailbox.list().received).toEqual([])
  })
})

test('a mailbox of 100,000 messages is taken in, a page at a time', async () => {
  const { p2 } = await pair()
  p2.network.offers.length = 0
  for (let page = 0; page < 100; page++)
    await p2.mailbox.onMail(
      Array.from({ length: 1000 }, (_, i) => offerMail(`S${page}`, { id: `o${i}`, name: `${page}/${i}` as FileName })),
    )
  await p2.mailbox.stop()
  const { received, received_total } = p2.mailbox.list()
  expect(received).toHaveLength(1000)
  expect(received.every(({ state }) => state === 'taken')).toBe(true)
  expect(received_total).toBe(20_000)
}, 60_000)
