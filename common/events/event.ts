import { z } from 'zod'
import { NetworkError } from '../errors.ts'
import { issueText } from '../issue.ts'
import { ContentIdSchema, FileNameSchema, PeerIdSchema, TransferModeSchema } from '../schemas.ts'

/** What peers and the Maestro tell each other: every event, once. Servers, clients and AsyncAPI are made of these. */

/** Bounds that both ends know. */
export const EVENT_LIMITS = {
  /** events in one request or one commit */
  batch: 500,
  /** bytes of one event as JSON; a longer one is refused */
  bytes: 16 * 1024,
} as const

const Revision = z.int().min(0)
const Size = z.int().min(0)
/** As in `PATCH /peers/{id}/files`: all but the last change of a batch go from a revision to itself. */
const Revisions = z
  .object({
    from: Revision,
    to: Revision,
    part: z
      .int()
      .min(1)
      .optional()
      .meta({ description: 'its place among the events of one batch (default 1, the first)' }),
  })
  .meta({ description: "the origin's catalog before and after; all but the last of one batch change nothing" })

const fileData = { name: FileNameSchema, id: ContentIdSchema, size: Size, revision: Revisions }
const transferData = {
  transfer: z.string().max(20).meta({ description: 'its number at the origin' }),
  direction: z.enum(['download', 'push']).meta({ description: 'fetched by the origin, or pushed to it' }),
  mode: TransferModeSchema,
  file: z.string().max(4200).nullable().meta({ description: 'a name; of a folder it ends with "/"' }),
  id: ContentIdSchema.nullable(),
  size: Size.nullable().meta({ description: 'bytes' }),
}
const levelData = {
  before: z.string().max(40),
  level: z.string().max(40).meta({ description: 'at which way of finding files the network works for the origin' }),
  text: z.string().max(500),
}

/** What each type of event carries. */
const DATA = {
  'peer.registered': z.object({ peer: PeerIdSchema, rest: z.string().max(300), grpc_port: z.int(), files: z.int() }),
  'peer.expired': z.object({ peer: PeerIdSchema }),
  'peer.withdrawn': z.object({ peer: PeerIdSchema }),
  'file.added': z.object(fileData),
  'file.removed': z.object({ name: FileNameSchema, revision: Revisions }),
  'file.renamed': z.object({
    ...fileData,
    from: FileNameSchema.meta({ description: 'the name under which it was removed a moment ago' }),
  }),
  'transfer.started': z.object(transferData),
  'transfer.completed': z.object({ ...transferData, bytes: Size, seconds: z.number().min(0) }),
  'transfer.failed': z.object({
    ...transferData,
    error: z.object({ code: z.string().max(40), message: z.string().max(2000) }),
  }),
  'network.degraded': z.object(levelData),
  'network.restored': z.object(levelData),
} as const

export type EventType = keyof typeof DATA
export const EVENT_TYPES = Object.keys(DATA) as EventType[]

/** What each type means, for people. */
export const EVENT_MEANINGS: Record<EventType, string> = {
  'peer.registered': 'the Maestro has opened a lease',
  'peer.expired': 'the lease of a peer ended unrenewed',
  'peer.withdrawn': 'a peer closed its lease politely',
  'file.added': 'the origin shares a content under a name, or another content than before',
  'file.removed': 'the origin shares nothing under that name any more',
  'file.renamed': 'a content that was just removed is shared under another name',
  'transfer.started': 'the origin has begun to fetch',
  'transfer.completed': 'the origin has fetched and verified it all',
  'transfer.failed': 'a transfer ended without its content',
  'network.degraded': 'the origin finds files in a worse way than before',
  'network.restored': 'the origin finds files in a better way than before',
}

const envelope = {
  v: z.literal(1).meta({ description: 'version of this form' }),
  id: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)
    .meta({ description: 'the same wherever and however often the event is seen' }),
  origin: z.string().min(1).max(64).meta({ description: 'the peer, or the Maestro, that it happened at' }),
  seq: z.int().min(1).meta({ description: "the origin's sequence number: one more with each event of its" }),
  time: z.iso.datetime().meta({ description: "the origin's time" }),
}

function schemaOf<T extends EventType>(type: T) {
  return z.object({ ...envelope, type: z.literal(type), data: DATA[type] }).meta({
    id: type
      .split('.')
      .map((word) => word[0]!.toUpperCase() + word.slice(1))
      .join(''),
    description: EVENT_MEANINGS[type],
  })
}
/** One schema a type. */
export const EVENT_SCHEMAS = Object.fromEntries(EVENT_TYPES.map((type) => [type, schemaOf(type)])) as {
  [T in EventType]: ReturnType<typeof schemaOf<T>>
}

export type EventData<T extends EventType> = z.infer<(typeof DATA)[T]>
export type EventOf<T extends EventType> = {
  v: 1
  id: string
  origin: string
  seq: number
  time: string
  type: T
  data: EventData<T>
}
export type NetworkEvent = { [T in EventType]: EventOf<T> }[EventType]
/** What is about to become an event: the log gives it its id, number and time. */
export type EventDraft = { [T in EventType]: { type: T; data: EventData<T> } }[EventType]

export function isEventType(text: unknown): text is EventType {
  return typeof text === 'string' && Object.hasOwn(DATA, text)
}

/** @throws NetworkError `invalid`, which says what is wrong with it */
export function parseEvent(value: unknown): NetworkEvent {
  const type = (value as { type?: unknown } | null)?.type
  if (!isEventType(type)) throw new NetworkError('invalid', 'an event of a type that is not known here')
  const parsed = EVENT_SCHEMAS[type].safeParse(value)
  if (!parsed.success) throw new NetworkError('invalid', issueText(parsed.error.issues, value, `event ${type}`))
  return parsed.data as NetworkEvent
}

/** An event of any type, in a body that holds several; which types there are, AsyncAPI tells. */
export const EventSchema = z
  .looseObject({ ...envelope, type: z.enum(EVENT_TYPES as [EventType, ...EventType[]]), data: z.looseObject({}) })
  .transform((value, context): NetworkEvent => {
    try {
      return parseEvent(value)
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as NetworkError).message })
      return z.NEVER
    }
  })
  .meta({ id: 'Event' })

/**
 * Which types a watcher wants: names, or families as in `file.*`, separated by commas.
 * @throws NetworkError `invalid`
 */
export function parseEventTypes(text: string): ReadonlySet<EventType> {
  const types = new Set<EventType>()
  for (const word of text.split(',').map((part) => part.trim())) {
    const family = word.endsWith('.*') ? word.slice(0, -1) : word === '*' ? '' : undefined
    const meant = EVENT_TYPES.filter((type) => (family === undefined ? type === word : type.startsWith(family)))
    if (meant.length === 0)
      throw new NetworkError(
        'invalid',
        `there are no events "${word.slice(0, 40)}": there are ${EVENT_TYPES.join(', ')}`,
      )
    for (const type of meant) types.add(type)
  }
  return types
}
