import { z } from 'zod'
import { ContentIdSchema, FileNameSchema, PeerIdSchema } from '../schemas.ts'

/** What one peer leaves for another: an offer, or what became of one. A message never holds a file's bytes. */

/** bytes of one message as JSON; a longer one is refused */
export const MAIL_BYTES = 16 * 1024
/** messages in one mailbox; more are refused until some are taken */
export const MAILBOX_MESSAGES = 200_000
/** the longest that an offer may wait, ms */
export const MAX_EXPIRY_MS = 366 * 24 * 3600 * 1000

const envelope = {
  v: z.literal(1).meta({ description: 'version of this form' }),
  id: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)
    .meta({ description: 'the same however often the message is delivered' }),
  from: PeerIdSchema,
  to: PeerIdSchema,
  sent: z.iso.datetime(),
  expires: z.iso.datetime().meta({ description: 'after which nobody need see it' }),
}

export const OfferMailSchema = z
  .object({
    ...envelope,
    kind: z.literal('offer'),
    name: FileNameSchema.meta({ description: 'under which the recipient is to share it' }),
    content: ContentIdSchema,
    size: z.int().min(0).meta({ description: 'bytes' }),
  })
  .meta({ id: 'OfferMail', description: 'a file that the recipient is to fetch from whoever has it' })

export const ReceiptMailSchema = z
  .object({
    ...envelope,
    kind: z.literal('receipt'),
    offer: z.string().max(64).meta({ description: 'the id of the offer' }),
    state: z.enum(['taken', 'delivered', 'refused']),
    reason: z.string().max(500).nullable().meta({ description: 'why it was refused' }),
  })
  .meta({ id: 'ReceiptMail', description: 'what became of an offer, for its sender' })

export const MailSchema = z.discriminatedUnion('kind', [OfferMailSchema, ReceiptMailSchema]).meta({ id: 'Mail' })
export type OfferMail = z.infer<typeof OfferMailSchema>
export type ReceiptMail = z.infer<typeof ReceiptMailSchema>
export type Mail = OfferMail | ReceiptMail
