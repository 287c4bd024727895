import { createRoute } from '@hono/zod-openapi'
import type { z } from 'zod'
import {
  type AgentMailbox,
  AgentMailboxQuery,
  AgentMailboxResponse,
  type OfferBody,
  SendOfferRequest,
  SendOfferResponse,
} from '../../common/events/rest.ts'
import { type App, answer, refusal } from '../../common/http.ts'

/** The mailbox engine, as REST drives it. */
export interface OfferDesk {
  list(query: z.output<typeof AgentMailboxQuery>): AgentMailbox
  /** @throws NetworkError `not_found` where this peer does not share the content; `invalid`; `limited` */
  offer(request: z.output<typeof SendOfferRequest>): OfferBody[]
}

const tags = ['mailbox']

export function addMailboxRoutes(app: App, mailbox: OfferDesk): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/mailbox',
      tags,
      request: { query: AgentMailboxQuery },
      responses: { 200: answer(AgentMailboxResponse, 'offers made by this peer and to it'), default: refusal },
    }),
    (c) => c.json(mailbox.list(c.req.valid('query')), 200),
  )
  app.openapi(
    createRoute({
      method: 'post',
      path: '/mailbox',
      tags,
      description:
        'Each recipient fetches it when it is there next, from whoever has it. The same offer while it is under way is answered with that one.',
      request: { body: { ...answer(SendOfferRequest, 'what is offered to whom'), required: true } },
      responses: { 202: answer(SendOfferResponse, 'the offers are recorded, and go out'), default: refusal },
    }),
    (c) => c.json({ offers: mailbox.offer(c.req.valid('json')) }, 202),
  )
}
