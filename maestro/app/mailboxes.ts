import { createRoute, z } from '@hono/zod-openapi'
import { NetworkError } from '../../common/errors.ts'
import { MailboxCount, MailboxQuery, MailboxResponse, SendMailRequest, TakenRequest } from '../../common/events/rest.ts'
import { type App, answer, refusal, remoteAddress } from '../../common/http.ts'
import { PeerIdSchema } from '../../common/schemas.ts'
import type { Mailboxes } from '../mailboxes/mailboxes.ts'

const tags = ['mailboxes']
const params = z.object({ peer: PeerIdSchema })
const elsewhere = {
  409: { ...refusal, description: 'the mailboxes of this network are at its RabbitMQ' },
}

const send = createRoute({
  method: 'post',
  path: '/mailboxes/{peer}',
  tags,
  summary: 'Leave a message for a peer, whether or not it is there',
  description:
    'Kept until the peer takes it, or it expires. A message with the id of one that is in the mailbox changes nothing. The peer hears of it at once where it watches `/events?mailbox=`.',
  request: { params, body: { required: true, content: { 'application/json': { schema: SendMailRequest } } } },
  responses: {
    202: answer(MailboxCount, 'it is in the mailbox'),
    400: refusal,
    413: refusal,
    429: refusal,
    ...elsewhere,
  },
})

const list = createRoute({
  method: 'get',
  path: '/mailboxes/{peer}',
  tags,
  summary: 'What waits for a peer, oldest first',
  description: 'Whoever knows the id of a peer can read its mailbox, as long as peers have no certificates.',
  request: { params, query: MailboxQuery },
  responses: { 200: answer(MailboxResponse, 'a page of messages'), 400: refusal, ...elsewhere },
})

const taken = createRoute({
  method: 'post',
  path: '/mailboxes/{peer}/taken',
  tags,
  summary: 'Remove messages that the peer has taken',
  request: { params, body: { required: true, content: { 'application/json': { schema: TakenRequest } } } },
  responses: { 200: answer(MailboxCount, 'what waits still'), 400: refusal, ...elsewhere },
})

/** `mailboxes`: undefined where a broker keeps them */
export function addMailboxRoutes(app: App, deps: { mailboxes: Mailboxes | undefined }): void {
  const kept = (): Mailboxes => {
    if (deps.mailboxes) return deps.mailboxes
    throw new NetworkError(
      'conflict',
      'the mailboxes of this network are at its RabbitMQ: configure this peer with the same "events"',
    )
  }

  app.openapi(send, async (c) => {
    const mailboxes = kept()
    const { mail } = c.req.valid('json')
    if (mail.to !== c.req.valid('param').peer)
      throw new NetworkError('invalid', `the message is for ${mail.to}: leave it at /mailboxes/${mail.to}`, {
        id: mail.id,
      })
    return c.json({ waiting: await mailboxes.put(mail, remoteAddress(c)) }, 202)
  })

  app.openapi(list, async (c) => c.json(await kept().page(c.req.valid('param').peer, c.req.valid('query')), 200))

  app.openapi(taken, async (c) => {
    const { ids } = c.req.valid('json')
    return c.json({ waiting: await kept().taken(c.req.valid('param').peer, ids) }, 200)
  })
}
