import { describe, expect, test } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import type { PeerId } from '../../common/ids.ts'
import { idOf } from '../transfer/manager.fixture.ts'
import { DAY, FILM, Post, TestPeer } from './mailbox.fixture.ts'

const P2 = 'P2' as PeerId
const content = idOf('a')

async function pair(options: ConstructorParameters<typeof TestPeer>[3] = {}) {
  const post = new Post()
  const clock = new ManualClock()
  const p1 = new TestPeer('P1', post, clock)
  const p2 = new TestPeer('P2', post, clock, options)
  p1.share(FILM, content)
  await p1.mailbox.start()
  return { post, clock, p1, p2 }
}

describe('an offer to a peer that is away', () => {
  test('waits for it a week, is fetched, and its sender hears that it arrived', async () => {
    const { post, clock, p1, p2 } = await pair()
    expect(p1.mailbox.offer({ to: [P2], id: content })).toMatchObject([{ peer: 'P2', name: FILM, state: 'sending' }])
    await expect.poll(() => p1.sent()?.state).toBe('queued')
    clock.advance(7 * DAY)

    p2.network.offer('P1', FILM, content)
    await p2.mailbox.start()
    await post.deliver(p2)
    await expect.poll(() => p2.received()?.state).toBe('delivered')
    expect(p2.network.landing.get(FILM)).toBe(content)

    await expect.poll(() => post.box(p1.id).size).toBeGreaterThan(0)
    await expect
      .poll(async () => {
        await post.deliver(p1)
        return p1.sent()?.state
      })
      .toBe('delivered')
  })
})
