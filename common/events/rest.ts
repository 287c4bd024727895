import { z } from 'zod'
import { ContentIdSchema, FileNameSchema, LIMITS, PageQuery, PeerIdSchema } from '../schemas.ts'
import { EVENT_LIMITS, EventSchema, type EventType, parseEventTypes } from './event.ts'
import { MAX_EXPIRY_MS, MailSchema } from './mail.ts'

/** REST bodies and queries of events, mailboxes and follows; as in `common/schemas.ts`, once for both ends. */

const Types = z
  .string()
  .max(500)
  .transform((text, context): ReadonlySet<EventType> => {
    try {
      return parseEventTypes(text)
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as Error).message })
      return z.NEVER
    }
  })
  .meta({ description: 'types or families, separated by commas', example: 'file.*,peer.registered' })

/** `GET /events`, on Maestro and agents. */
export const EventsQuery = z.object({
  type: Types.optional(),
  last: z.coerce.number().int().min(0).max(100_000).optional().meta({
    description: 'begin with that many events of the past, of those types (default 0; not with Last-Event-ID)',
  }),
  follow: z.enum(['0', '1']).default('1').meta({ description: '0: end once what there is was sent' }),
})
/** `GET /events` of the Maestro. */
export const MaestroEventsQuery = EventsQuery.extend({
  mailbox: PeerIdSchema.optional().meta({
    description: 'also sends an event named "mail" whenever this peer\'s mailbox has something, and at the beginning',
  }),
})

// ---- Maestro ------------------------------------------------------------------------------------------------------

export const PublishRequest = z
  .object({ events: z.array(EventSchema).min(1).max(EVENT_LIMITS.batch) })
  .meta({ id: 'PublishRequest' })
export const PublishResponse = z
  .object({ accepted: z.int().meta({ description: 'those that were not known yet' }) })
  .meta({ id: 'PublishResponse' })

export const SendMailRequest = z.object({ mail: MailSchema }).meta({ id: 'SendMailRequest' })
export const MailboxCount = z.object({ waiting: z.int() }).meta({ id: 'MailboxCount' })
export const MailboxQuery = PageQuery
/** Oldest first. */
export const MailboxResponse = z
  .object({
    mail: z.array(MailSchema).max(LIMITS.pageSize),
    next: z.string().nullable(),
    waiting: z.int().meta({ description: 'messages in the mailbox, these included' }),
  })
  .meta({ id: 'MailboxResponse' })
export const TakenRequest = z
  .object({ ids: z.array(z.string().max(64)).min(1).max(LIMITS.pageSize) })
  .meta({ id: 'TakenRequest' })

// ---- peer ---------------------------------------------------------------------------------------------------------

export const OFFER_STATES = ['sending', 'queued', 'taken', 'delivered', 'refused', 'expired'] as const
/**
 * `sending`: not yet in the mailbox; `queued`: in it; `taken`: the recipient has read it and fetches; `delivered`: it
 * has verified all; `refused`: it will not take it; `expired`: its time was over before it was delivered.
 */
export type OfferState = (typeof OFFER_STATES)[number]

export const OfferSchema = z
  .object({
    offer: z.string(),
    peer: PeerIdSchema.meta({ description: 'the recipient of one that was sent, the sender of one that was received' }),
    name: FileNameSchema,
    id: ContentIdSchema,
    size: z.int(),
    state: z.enum(OFFER_STATES),
    problem: z.string().nullable().meta({ description: 'what stands in its way at present, or why it was refused' }),
    sent: z.string(),
    changed: z.string().meta({ description: 'when the state was reached' }),
    expires: z.string(),
  })
  .meta({ id: 'Offer' })
export type OfferBody = z.infer<typeof OfferSchema>

/** ids in one query: a request line of some kB */
export const OFFERS_PER_QUERY = 200
export const AgentMailboxQuery = z.object({
  sent: z
    .string()
    .max(OFFERS_PER_QUERY * 65)
    .transform((text) => text.split(','))
    .pipe(z.array(z.string().min(1).max(64)).max(OFFERS_PER_QUERY))
    .optional()
    .meta({ description: 'only these of the offers sent, and none received: up to 200 ids, separated by commas' }),
})
export const AgentMailboxResponse = z
  .object({
    sent: z.array(OfferSchema),
    received: z.array(OfferSchema),
    sent_total: z.int().meta({ description: 'offers sent, with those that are not listed here' }),
    received_total: z.int(),
  })
  .meta({
    id: 'Mailbox',
    description: 'up to 1,000 of each: those under way, the newest first, then those that have ended, the latest first',
  })
export type AgentMailbox = z.infer<typeof AgentMailboxResponse>

export const SendOfferRequest = z
  .object({
    to: z.array(PeerIdSchema).min(1).max(1000),
    id: ContentIdSchema.meta({ description: 'a content that this peer shares' }),
    name: FileNameSchema.optional().meta({ description: 'default: a name under which this peer shares it' }),
    expires_s: z
      .int()
      .min(1)
      .max(MAX_EXPIRY_MS / 1000)
      .optional()
      .meta({ description: 'seconds that the offer may wait (default 30 days)' }),
  })
  .meta({ id: 'SendOfferRequest' })
export const SendOfferResponse = z.object({ offers: z.array(OfferSchema) }).meta({ id: 'SendOfferResponse' })

const Pattern = z
  .string()
  .min(1)
  .max(500)
  .meta({ description: '* within a folder, ** across folders, ?, {a,b}', example: 'lectures/**' })
export const FollowRequest = z
  .object({
    pattern: Pattern,
    quota: z.int().min(0).optional().meta({ description: 'bytes that may be fetched for it (default 10 GB)' }),
  })
  .meta({ id: 'FollowRequest' })
export const FollowQuery = z.object({ pattern: Pattern })
export const FollowSchema = z
  .object({
    pattern: Pattern,
    quota: z.int(),
    bytes: z.int().meta({ description: 'bytes of what was fetched for it, and is still shared here' }),
    files: z.int().meta({ description: 'files that were fetched for it, and are still shared here' }),
    fetching: z.int().meta({ description: 'files under way or waiting their turn' }),
    left_out: z
      .array(z.object({ name: z.string(), why: z.string() }))
      .max(100)
      .meta({ description: 'what was not fetched, such as beyond the quota; the latest 100' }),
    since: z.string(),
  })
  .meta({ id: 'Follow' })
export type FollowBody = z.infer<typeof FollowSchema>
export const FollowsResponse = z.object({ follows: z.array(FollowSchema) }).meta({ id: 'Follows' })
