import { expect, onTestFinished, test } from 'vitest'
import { busContract } from '../common/events/bus.contract.ts'
import { anOffer, MemoryLog, someEvents } from '../common/events/bus.fixture.ts'
import type { Mail } from '../common/events/mail.ts'
import { parsePeerId } from '../common/ids.ts'
import { openMaestroCarrier } from './events-bus.fixture.ts'

const never = new AbortController().signal

busContract('the Maestro', openMaestroCarrier)

test('a mailbox of 10,000 messages reaches its peer whole, in order, while events go on', {
  timeout: 60_000,
}, async () => {
  const count = 10_000
  const carrier = await openMaestroCarrier()
  const [p1, p2] = [parsePeerId('P1'), parsePeerId('P2')]
  await carrier.fill(Array.from({ length: count }, (_, i) => anOffer(p1, p2, i)))
  const sender = await carrier.bus(p1, { log: new MemoryLog(), onMail: async () => {}, onGap: () => {} })
  const log = new MemoryLog()
  const mail: string[] = []
  let largest = 0
  const onMail = async (batch: readonly Mail[]) => {
    largest = Math.max(largest, batch.length)
    mail.push(...batch.map(({ id }) => id))
  }
  const recipient = await carrier.bus(p2, { log, onMail, onGap: () => {} })
  onTestFinished(() => recipient.stop())
  await recipient.start()
  await expect.poll(() => recipient.state.state).toBe('connected')
  await sender.publish(someEvents('P1', 1, 100), never)
  await expect.poll(() => mail.length, { timeout: 30_000 }).toBe(count)
  expect(mail).toEqual(Array.from({ length: count }, (_, i) => `P1.mail.${i}`))
  expect(largest).toBeLessThanOrEqual(1000)
  await expect.poll(() => log.seqs('P1').length).toBe(100)
})
