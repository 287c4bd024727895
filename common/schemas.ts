import { z } from 'zod'
import type { NetworkError } from './errors.ts'
import {
  CONTENT_ID,
  type ContentId,
  type FileName,
  isFileName,
  parseContentId,
  parseFileName,
  parsePeerId,
} from './ids.ts'
import { MAX_FILE_SIZE, MAX_PIECE_SIZE } from './merkle.ts'
import { parseRate } from './rate.ts'

/** Every REST body and query, once: the servers validate by these, the clients parse by these, OpenAPI is made of them. */

/** Bounds that both ends know. A request beyond them is refused with `too_large` or `invalid`. */
export const LIMITS = {
  /** files in one `POST /register` or one `PATCH`, added and removed together */
  filesPerRequest: 10_000,
  /** bytes of one JSON request body */
  bodyBytes: 8 * 1024 * 1024,
  /** rows in one page of a list */
  pageSize: 1000,
} as const

// ---- values -------------------------------------------------------------------------------------------------------

/** Turns a parser that throws NetworkError into a schema over strings. */
function text<T extends string>(parse: (text: string) => T, meta: Record<string, unknown>): z.ZodType<T, string> {
  return z
    .string()
    .superRefine((value, context) => {
      try {
        parse(value)
      } catch (error) {
        context.addIssue({ code: 'custom', message: (error as NetworkError).message })
      }
    })
    .overwrite((value) => {
      try {
        return parse(value)
      } catch {
        return value
      }
    })
    .meta(meta) as unknown as z.ZodType<T, string>
}

export const ContentIdSchema = z
  .string()
  .regex(CONTENT_ID, 'a content id has 64 lower-case hex digits')
  .meta({ description: 'BEP 52 pieces root', example: 'a'.repeat(64) }) as unknown as z.ZodType<ContentId, string>

/** A name as machines send it: already in normal form. */
export const FileNameSchema = z
  .string()
  .refine(isFileName, { error: (issue) => nameProblem(issue.input) })
  .meta({ description: 'a relative path with "/"', example: 'lectures/week1.pdf' }) as unknown as z.ZodType<
  FileName,
  string
>

/** A name as people type it. */
export const FileNameQuery = text(parseFileName, { description: 'exact file name', example: 'archivo1.txt' })
export const ContentIdQuery = text(parseContentId, { description: 'content id, 64 hex digits' })
export const PeerIdSchema = text(parsePeerId, { description: 'peer id', example: 'P1' })

const SizeSchema = z.int().min(0).max(MAX_FILE_SIZE).meta({ description: 'bytes' })
const MAX_PIECES = MAX_FILE_SIZE / MAX_PIECE_SIZE
const RevisionSchema = z.int().min(0).meta({ description: 'catalog revision; 0 while an announcement is incomplete' })
const PortSchema = z.int().min(1).max(65535)
const UrlSchema = z.string().min(1).max(300)

function nameProblem(input: unknown): string {
  try {
    const name = parseFileName(String(input))
    return `send "${name}" in Unicode normal form C`
  } catch (error) {
    return (error as Error).message
  }
}

export const ErrorSchema = z
  .object({ error: z.looseObject({ code: z.string(), message: z.string() }) })
  .meta({ id: 'Error' })

export const PageQuery = z.object({
  limit: z.coerce.number().int().min(1).max(LIMITS.pageSize).default(100).meta({ description: 'rows, 1 to 1000' }),
  after: z.string().max(4096).optional().meta({ description: 'the `next` of the page before' }),
})
const Next = z.string().nullable().meta({ description: 'pass it as `after` for the next page; null on the last' })

// ---- Maestro ------------------------------------------------------------------------------------------------------

export const FileEntrySchema = z
  .object({
    name: FileNameSchema,
    size: SizeSchema.nullable().default(null),
    id: ContentIdSchema.nullable().default(null),
  })
  .meta({ id: 'FileEntry' })
/** What a peer offers under a name; `id` and `size` are null where it was registered by its bare name. */
export type FileEntry = z.infer<typeof FileEntrySchema>

const EntryInput = z.union([FileNameSchema, FileEntrySchema])
const EntriesInput = z.array(EntryInput).max(LIMITS.filesPerRequest)

export const RegisterRequest = z
  .object({
    peer: UrlSchema.meta({
      description: "the peer's REST URL, as others reach it",
      example: 'http://192.168.1.20:8000',
    }),
    grpc_port: PortSchema,
    files: EntriesInput.meta({ description: 'a bare name, or {name, size, id}' }),
    id: PeerIdSchema.optional().meta({ description: 'default: host:port of its REST URL, with "-"' }),
    revision: RevisionSchema.default(0),
  })
  .meta({ id: 'RegisterRequest' })
export type RegisterRequest = z.input<typeof RegisterRequest>

export const LeaseSchema = z
  .object({
    id: PeerIdSchema,
    revision: RevisionSchema,
    files: z.int(),
    lease_ms: z.int().meta({ description: 'milliseconds until the lease ends unless renewed' }),
    heartbeat_ms: z.int().meta({ description: 'send heartbeats this often: a third of the lease' }),
  })
  .meta({ id: 'Lease' })
export type Lease = z.infer<typeof LeaseSchema>

export const HeartbeatRequest = z
  .object({ id: PeerIdSchema, revision: RevisionSchema })
  .meta({ id: 'HeartbeatRequest' })

export const PatchFilesRequest = z
  .object({
    from: RevisionSchema,
    to: RevisionSchema,
    add: EntriesInput.default([]),
    remove: z.array(FileNameSchema).max(LIMITS.filesPerRequest).default([]),
  })
  .refine((patch) => patch.to >= patch.from, { error: '"to" comes after "from"', path: ['to'] })
  .meta({ id: 'PatchFilesRequest' })
export type PatchFilesRequest = z.input<typeof PatchFilesRequest>

/** Where one content can be had under one name. */
export const ProviderSchema = z
  .object({
    peer: PeerIdSchema,
    rest: UrlSchema,
    grpc_port: PortSchema,
    id: ContentIdSchema.nullable(),
    size: SizeSchema.nullable(),
  })
  .meta({ id: 'Provider' })
export type ProviderBody = z.infer<typeof ProviderSchema>

export const LocateQuerySchema = z.object({ file: FileNameQuery.optional(), id: ContentIdQuery.optional() })
export const MaestroLocateResponse = z
  .object({ file: z.string().nullable(), peers: z.array(ProviderSchema.extend({ file: FileNameSchema.optional() })) })
  .meta({ id: 'MaestroLocateResponse' })

export const PeerRowSchema = z
  .object({
    id: PeerIdSchema,
    rest: UrlSchema,
    grpc_port: PortSchema,
    files: z.array(FileNameSchema).meta({ description: 'the first 100 names' }),
    file_count: z.int(),
    status: z.enum(['alive', 'expired']),
    last_seen: z.string().meta({ description: 'ISO 8601, of the last heartbeat' }),
    revision: RevisionSchema,
  })
  .meta({ id: 'Peer' })
export const PeersResponse = z.object({ peers: z.array(PeerRowSchema), next: Next }).meta({ id: 'PeersResponse' })
export type PeerRow = z.infer<typeof PeerRowSchema>

const Under = FileNameQuery.optional().meta({ description: 'only what is in this folder', example: 'lectures' })
export const DirectoryQuery = PageQuery.extend({ under: Under })
export const DirectoryResponse = z
  .object({ directory: z.record(z.string(), z.array(ProviderSchema)), next: Next })
  .meta({ id: 'DirectoryResponse' })

export const TextQuery = z.string().trim().min(1).max(200).meta({ description: 'words and parts of words of a name' })
export const SearchQuery = PageQuery.extend({ q: TextQuery })
export const SearchResponse = z
  .object({
    query: z.string(),
    results: z.array(
      z.object({
        file: FileNameSchema,
        providers: z.int().meta({ description: 'how many live peers offer it' }),
        peers: z.array(ProviderSchema).meta({ description: 'up to 10 of them' }),
      }),
    ),
    next: Next,
  })
  .meta({ id: 'SearchResponse' })

const swarmPieces = {
  have: z.int().min(0).meta({ description: 'pieces that it has' }),
  pieces: z.int().min(0).max(MAX_PIECES).meta({ description: 'pieces of the content' }),
}
const SwarmContact = z.object({ peer: PeerIdSchema, grpc_port: PortSchema })
/** A taker's word that it is in a swarm, or leaves it. Its host is where it is seen. */
export const SwarmRequest = z
  .union([
    SwarmContact.extend({ ...swarmPieces, left: z.literal(false).optional() }).refine(
      ({ have, pieces }) => have <= pieces,
      { error: '"have" is at most "pieces"', path: ['have'] },
    ),
    SwarmContact.extend({ left: z.literal(true) }),
  ])
  .meta({ id: 'SwarmRequest' })
export type SwarmRequest = z.input<typeof SwarmRequest>

export const SwarmPeerSchema = SwarmContact.extend({ host: z.string().min(1).max(253), ...swarmPieces }).meta({
  id: 'SwarmPeer',
})
/** One taker of a content: a hint, to be checked by who follows it. */
export type SwarmPeerBody = z.infer<typeof SwarmPeerSchema>
export const SwarmResponse = z
  .object({
    peers: z.array(SwarmPeerSchema).max(LIMITS.pageSize).meta({ description: 'up to 50 others, at random' }),
  })
  .meta({ id: 'SwarmResponse' })
export type SwarmResponse = z.infer<typeof SwarmResponse>
export const SwarmMembersResponse = z
  .object({ id: ContentIdSchema, peers: z.array(SwarmPeerSchema) })
  .meta({ id: 'SwarmMembers' })
export const SwarmsQuery = PageQuery.pick({ limit: true })
export const SwarmsResponse = z
  .object({
    swarms: z
      .array(z.object({ id: ContentIdSchema, peers: z.int().meta({ description: 'takers at present' }) }))
      .meta({ description: 'the largest first' }),
    count: z.int().meta({ description: 'how many there are in all' }),
  })
  .meta({ id: 'Swarms' })

export const EventsStateSchema = z
  .object({
    kind: z.enum(['embedded', 'rabbitmq', 'none']),
    state: z.enum(['connected', 'unreachable', 'blocked']),
    problem: z.string().nullable(),
    unsent: z.int().meta({ description: 'events of this process that nobody else has yet' }),
  })
  .meta({ id: 'EventsState', description: 'what carries events and mail, and how it stands' })
export type EventsState = z.infer<typeof EventsStateSchema>

export const MaestroInfo = z
  .object({
    service: z.literal('maestro'),
    id: z.string(),
    version: z.string(),
    status: z.literal('ok'),
    peers: z.int(),
    files: z.int().meta({ description: 'entries of live peers' }),
    uptime_s: z.number(),
    lease_ms: z.int(),
    events: EventsStateSchema.optional(),
  })
  .meta({ id: 'MaestroInfo' })

export const Health = z.object({ status: z.literal('ok') }).meta({ id: 'Health' })

// ---- peer ---------------------------------------------------------------------------------------------------------

export const PeerFileSchema = z
  .object({ name: FileNameSchema, size: SizeSchema, id: ContentIdSchema, modified: z.string() })
  .meta({ id: 'PeerFile' })
export type PeerFile = z.infer<typeof PeerFileSchema>

/** `dummy` (ECO): the whole conversation, and no byte moves. */
export const TransferModeSchema = z.enum(['real', 'dummy'])
export type TransferMode = z.infer<typeof TransferModeSchema>

export const PeerInfo = z
  .object({
    id: PeerIdSchema,
    rest_url: UrlSchema,
    grpc_port: PortSchema,
    files: z.int(),
    bytes: z.int(),
    revision: RevisionSchema,
    scanning: z.boolean().meta({ description: 'true while files are found whose content id is not known yet' }),
    transfer: TransferModeSchema,
    maestro_url: z.string().nullable(),
    maestro: z
      .enum(['registered', 'unreachable', 'refused', 'none'])
      .meta({ description: 'how it stands with the Maestro' }),
    maestro_problem: z.string().nullable(),
    network: z.lazy(() => NetworkLevelSchema),
    events: EventsStateSchema,
    uptime_s: z.number(),
    version: z.string(),
  })
  .meta({ id: 'PeerInfo' })
export type PeerInfo = z.infer<typeof PeerInfo>

export const PeerFilesQuery = PageQuery.extend({ under: Under, details: z.enum(['0', '1']).default('0') })
export const PeerFilesResponse = z
  .object({
    peer: PeerIdSchema,
    grpc_port: PortSchema.optional(),
    files: z.array(z.union([FileNameSchema, PeerFileSchema])),
    next: Next,
  })
  .meta({ id: 'PeerFiles' })

export const PeerSearchQuery = z.object({
  file: FileNameQuery.optional(),
  id: ContentIdQuery.optional(),
  q: TextQuery.optional(),
})
/** By exact name, by content id, or by part of a name. */
export type PeerSearchQuery = z.output<typeof PeerSearchQuery>
/** What this one peer has; the shape that friends ask for. */
export const PeerSearchResponse = z
  .object({
    peer: PeerIdSchema,
    file: z.string().nullable(),
    exists: z.boolean(),
    grpc_port: PortSchema,
    matches: z.array(PeerFileSchema).max(1000),
  })
  .meta({ id: 'PeerSearch' })

/** In the order in which a lookup asks them, unless configured otherwise. */
export const STRATEGIES = ['local', 'maestro', 'friends', 'chord', 'flood'] as const
export const StrategyNameSchema = z.enum(STRATEGIES)
export type StrategyName = z.infer<typeof StrategyNameSchema>

export const StepSchema = z
  .object({
    strategy: StrategyNameSchema,
    asked: z.string().meta({ description: 'whom: a peer or URL' }),
    outcome: z
      .enum(['found', 'nothing', 'unreachable', 'timeout', 'refused', 'skipped'])
      .meta({ description: 'skipped: it did not answer lately, and has not been seen to answer since' }),
    found: z.int(),
    ms: z.number(),
    detail: z.string().nullable(),
    messages: z.int().default(0).meta({ description: 'sent for it, as far as known: questions, and what they led to' }),
    hops: z
      .int()
      .nullable()
      .default(null)
      .meta({ description: 'chord: members asked one after the other; flood: links to the nearest provider' }),
    path: z
      .array(z.object({ peer: PeerIdSchema, rest: UrlSchema, answered: z.boolean() }))
      .max(100)
      .default([])
      .meta({ description: 'the peers visited, in order' }),
    silent: z
      .array(z.object({ peer: PeerIdSchema, age_ms: z.number() }))
      .max(16)
      .default([])
      .meta({ description: 'providers that the ring has records of, so old, and that do not answer now' }),
    age_ms: z
      .number()
      .nullable()
      .default(null)
      .meta({ description: 'how long ago the providers of the records that were used said so, at most' }),
  })
  .meta({ id: 'LookupStep' })
export type LookupStep = z.infer<typeof StepSchema>

/** At which level a network without some of its parts works, the best first. */
export const LEVELS = ['maestro', 'ring', 'neighbours', 'friends', 'alone'] as const
export const NetworkLevelSchema = z
  .object({
    level: z.enum(LEVELS),
    text: z.string().meta({ example: 'Maestro down: using the ring; records up to 40 s old' }),
  })
  .meta({ id: 'NetworkLevel' })
export type NetworkLevel = z.infer<typeof NetworkLevelSchema>

export const PeerLocateQuery = PeerSearchQuery.extend({ via: StrategyNameSchema.optional() })
export const LocatedProvider = ProviderSchema.extend({
  file: FileNameSchema,
  via: StrategyNameSchema,
}).meta({ id: 'LocatedProvider' })
export type LocatedProvider = z.infer<typeof LocatedProvider>
export const PeerLocateResponse = z
  .object({
    file: z.string().nullable(),
    peers: z.array(LocatedProvider),
    via: StrategyNameSchema.nullable().meta({ description: 'the strategy that found them; null where none did' }),
    steps: z.array(StepSchema),
    network: NetworkLevelSchema,
  })
  .meta({ id: 'PeerLocate' })
export type PeerLocateResponse = z.infer<typeof PeerLocateResponse>

/** Bytes a second as people and scripts give them: see `parseRate`. */
export const RateSchema = z
  .union([z.number(), z.string().max(100), z.null()])
  .transform((value, context) => {
    try {
      return parseRate(value)
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as NetworkError).message })
      return z.NEVER
    }
  })
  .meta({ description: 'bytes a second, or text such as 10MB/s, 500KB, 80Mbit; null or "none": no limit' })
const RateValue = z.int().nullable().meta({ description: 'bytes a second; null: no limit' })

/** Days of the week, from `Date.getDay()` 0. */
export const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const
export type Day = (typeof DAYS)[number]
const entryOf = <S extends z.ZodType>(rate: S) =>
  z.strictObject({
    from: z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, '"from" is a time of day, 00:00 to 23:59'),
    to: z.string().regex(/^(([01]\d|2[0-3]):[0-5]\d|24:00)$/, '"to" is a time of day, 00:00 to 24:00'),
    days: z
      .array(z.enum(DAYS))
      .min(1)
      .max(7)
      .optional()
      .meta({ description: 'default: every day; one that crosses midnight belongs to the day on which it begins' }),
    download: rate.optional(),
    upload: rate.optional(),
  })
const MAX_SCHEDULE = 64
/** The first entry that covers the time holds, in local time; what it does not give holds as without it. */
export const RateScheduleSchema = z
  .array(
    entryOf(RateSchema).refine(({ download, upload }) => download !== undefined || upload !== undefined, {
      error: 'an entry gives "download" or "upload"',
    }),
  )
  .max(MAX_SCHEDULE)
export type ScheduleEntry = z.output<typeof RateScheduleSchema>[number]

/** How fast an agent may be: what holds where no entry of the schedule does, and the schedule. */
export interface RateSettings {
  /** bytes a second; null: no limit */
  readonly download: number | null
  readonly upload: number | null
  readonly schedule: readonly ScheduleEntry[]
}
const LIMIT_KEYS = ['download', 'upload', 'schedule'] as const
export const LimitsRequest = z
  .strictObject({
    download: RateSchema.optional(),
    upload: RateSchema.optional(),
    schedule: RateScheduleSchema.optional().meta({ description: 'in place of the whole one before' }),
  })
  .refine((request) => LIMIT_KEYS.some((key) => request[key] !== undefined), {
    error: 'give "download", "upload" or "schedule"',
  })
  .meta({ id: 'LimitsRequest' })
/** What is set; left out: as it was. */
export type LimitsChange = z.output<typeof LimitsRequest>
export const LimitsResponse = z
  .object({
    download: RateValue,
    upload: RateValue,
    schedule: z.array(entryOf(RateValue)),
    now: z
      .object({
        download: RateValue,
        upload: RateValue,
        until: z.string().nullable().meta({ description: 'ISO 8601, when the schedule brings others' }),
      })
      .meta({ description: 'what holds at present' }),
    set: z
      .array(z.enum(LIMIT_KEYS))
      .meta({ description: 'what was set while running, and so holds over the configuration' }),
  })
  .meta({ id: 'Limits' })
export type LimitsBody = z.infer<typeof LimitsResponse>

export const FriendSchema = z
  .object({
    url: UrlSchema,
    role: z.enum(['primary', 'backup', 'added']),
    id: PeerIdSchema.nullable(),
    alive: z.boolean().nullable().meta({ description: 'null until asked' }),
  })
  .meta({ id: 'Friend' })
export type Friend = z.infer<typeof FriendSchema>
export const FriendsResponse = z.object({ friends: z.array(FriendSchema) }).meta({ id: 'Friends' })
export const FriendRequest = z.object({ url: UrlSchema }).meta({ id: 'FriendRequest' })
export const KnownPeerSchema = z.object({
  id: PeerIdSchema.nullable(),
  rest: UrlSchema,
  grpc_port: PortSchema.nullable(),
  status: z
    .enum(['self', 'alive', 'lost', 'hearsay'])
    .meta({ description: 'lost: it answered once, and not the last time; hearsay: only told of by others' }),
  friend: z.boolean(),
  neighbour: z.boolean().meta({ description: 'queries that are flooded go to it' }),
  seen: z.string().nullable().meta({ description: 'ISO 8601, when it answered last' }),
})
export type KnownPeerBody = z.infer<typeof KnownPeerSchema>
export const KnownPeersResponse = z
  .object({
    peers: z.array(
      KnownPeerSchema.partial({ grpc_port: true, status: true, friend: true, neighbour: true, seen: true }),
    ),
  })
  .meta({ id: 'KnownPeers' })
export const DiscoverRequest = z.object({ url: UrlSchema }).meta({ id: 'DiscoverRequest' })
export const DiscoverResponse = z
  .object({
    asked: UrlSchema,
    peers: z.array(
      z.object({
        id: PeerIdSchema.nullable(),
        rest: UrlSchema,
        outcome: z
          .enum(['kept', 'known', 'self', 'refused'])
          .meta({ description: 'kept: it answered and is known from now on' }),
        detail: z.string().nullable(),
      }),
    ),
  })
  .meta({ id: 'Discovered' })
export type DiscoverBody = z.infer<typeof DiscoverResponse>

const RingMemberSchema = z.object({ peer: PeerIdSchema, rest: UrlSchema, place: ContentIdSchema })
export const RING_STATES = ['off', 'alone', 'small', 'whole', 'repairing'] as const
export const RingResponse = z
  .object({
    state: z.enum(RING_STATES).meta({
      description:
        'off: this peer takes no part; alone: it knows no other member; small: fewer members than the length of a successor list, so each knows all; whole; repairing: no successor answered, who follows is a guess',
    }),
    text: z.string().meta({ description: 'the same for people' }),
    self: RingMemberSchema,
    predecessor: RingMemberSchema.nullable(),
    successors: z.array(RingMemberSchema),
    fingers: z
      .array(
        RingMemberSchema.extend({
          power: z
            .number()
            .meta({ description: 'it follows the place 2^power further; 1½ times as far where it ends in .5' }),
        }),
      )
      .meta({ description: 'beyond the successors, nearest first' }),
    successor_list: z.int().meta({ description: 'how long the list of successors is at most' }),
    members: z.number().meta({ description: 'how many members there seem to be, from how close the successors are' }),
    share: z.number().meta({ description: 'of all places, those that this member is responsible for; 0 to 1' }),
    records: z.object({
      held: z.int(),
      own: z.int().meta({ description: 'of these, those it is responsible for' }),
      published: z.int().meta({ description: 'records about files of this peer that it keeps up at others' }),
      unpublished: z.int().meta({ description: 'records of its files that wait to be published, or are too many' }),
    }),
    checked_ms: z.number().nullable().meta({ description: 'since the successor answered last' }),
    messages: z.object({ sent: z.int(), answered: z.int() }),
  })
  .meta({ id: 'Ring' })
export type RingBody = z.infer<typeof RingResponse>

/** A folder as people type it; the slash at its end is theirs to give or leave. */
const FolderQuery = text((value) => parseFileName(value.replace(/\/+$/, '')), {
  description: 'a shared folder, with or without "/" at its end',
  example: 'lectures/',
})
export const TransferRequest = z
  .object({
    file: FileNameQuery.optional().meta({ description: 'what to download, by name' }),
    id: ContentIdQuery.optional().meta({ description: '…or by content id' }),
    folder: FolderQuery.optional().meta({ description: '…or a whole shared folder' }),
    as: FileNameQuery.optional().meta({
      description: 'name under which it lands in the shared folder (default: its own)',
    }),
    via: StrategyNameSchema.optional(),
    mode: TransferModeSchema.optional().meta({ description: "default: the agent's own" }),
    limit: RateSchema.optional(),
  })
  .refine((request) => request.file !== undefined || request.id !== undefined || request.folder !== undefined, {
    error: 'give "file", "id" or "folder"',
    path: ['file'],
  })
  .refine((request) => request.folder === undefined || (request.file ?? request.id ?? request.via) === undefined, {
    error: 'a folder goes with none of "file", "id" and "via"',
    path: ['folder'],
  })
  .meta({ id: 'TransferRequest' })
export type TransferRequest = z.input<typeof TransferRequest>

/** What can be changed while a transfer runs. */
export const TransferPatch = z.object({ limit: RateSchema }).meta({ id: 'TransferPatch' })

const END_STATES = ['done', 'simulated', 'failed', 'cancelled'] as const
export type EndState = (typeof END_STATES)[number]
/**
 * `queued`: waits for others to end; `waiting`: for a provider, and asks again by itself; `paused`: for its user;
 * `verifying`: all is there and is being made durable.
 */
export const TransferStateSchema = z.enum([
  'queued',
  'locating',
  'running',
  'waiting',
  'paused',
  'verifying',
  ...END_STATES,
])
export type TransferState = z.infer<typeof TransferStateSchema>

/** Whether a transfer in this state changes no more. */
export function isEndState(state: TransferState): state is EndState {
  return (END_STATES as readonly TransferState[]).includes(state)
}

export const TransferProviderSchema = z
  .object({
    peer: PeerIdSchema,
    address: z.string().nullable().meta({ description: 'host:port, once it is known' }),
    state: z
      .enum(['connected', 'dropped', 'banned'])
      .meta({ description: 'dropped: not asked any more, or not for a while; banned: it sent what is wrong' }),
    reason: z.string().nullable().meta({ description: 'why it was dropped or banned' }),
    pieces: z.int().nullable().meta({ description: 'that it has, as far as it told' }),
    bytes: z.int().meta({ description: 'that came from it, verified and kept' }),
    rate: z.number().meta({ description: 'bytes a second, of late' }),
  })
  .meta({ id: 'TransferProvider' })
export type TransferProvider = z.infer<typeof TransferProviderSchema>

/** Providers of one transfer that are told. */
export const MAX_TRANSFER_PROVIDERS = 100

/** How far a fetch is, wherever it runs. */
export const FetchProgressSchema = z.object({
  size: SizeSchema.nullable(),
  bytes: z.int().meta({ description: 'verified so far (dummy: that would have been)' }),
  resumed_bytes: z.int().meta({ description: 'of these, found verified on disk from before' }),
  received: z.int().meta({ description: 'payload bytes that came over the network, also those that were thrown away' }),
  pieces: z.object({ total: z.int(), verified: z.int() }).nullable(),
  files: z.object({ total: z.int(), done: z.int() }).nullable().meta({ description: 'of a folder' }),
  rate: z.number().meta({ description: 'bytes a second, of late; after the end, over all of it' }),
  peak_rate: z.number().meta({ description: 'the most bytes that came in any one second; 0 before one is over' }),
  providers: z
    .array(TransferProviderSchema)
    .max(MAX_TRANSFER_PROVIDERS)
    .meta({ description: 'who gave most comes first' }),
  waiting: z
    .object({ retry_ms: z.int() })
    .nullable()
    .meta({ description: 'no provider is there; it asks again so many ms after it began to wait' }),
})
export type FetchProgressBody = z.infer<typeof FetchProgressSchema>

export const TransferSchema = FetchProgressSchema.extend({
  transfer: z.string(),
  state: TransferStateSchema,
  mode: TransferModeSchema,
  direction: z.enum(['download', 'push']).meta({ description: 'push: another peer sends it here' }),
  file: z.string().nullable().meta({ description: 'a folder ends with "/"' }),
  id: ContentIdSchema.nullable(),
  joined: z.string().nullable().meta({ description: 'the transfer whose fetch of the same content it shares' }),
  limit: RateValue,
  eta_s: z.number().nullable().meta({ description: 'seconds left at the present rate' }),
  via: StrategyNameSchema.nullable(),
  steps: z.array(StepSchema),
  notes: z.array(z.string()).meta({ description: 'what went wrong on the way, such as a provider dropped and why' }),
  error: z.looseObject({ code: z.string(), message: z.string() }).nullable(),
  started: z.string(),
  seconds: z.number().meta({ description: 'since it was asked for, without pauses' }),
}).meta({ id: 'Transfer' })
export type TransferBody = z.infer<typeof TransferSchema>
export const TransfersQuery = z.object({ state: TransferStateSchema.optional() })
export const TransfersResponse = z.object({ transfers: z.array(TransferSchema) }).meta({ id: 'Transfers' })

export const UploadsResponse = z
  .object({
    uploads: z.array(
      z.object({
        id: ContentIdSchema,
        takers: z.int().meta({ description: 'conversations about it now' }),
        pieces: z.int(),
        sent_once: z.int().meta({ description: 'pieces that have left in full at least once' }),
        bytes: z.int().meta({ description: 'that left since somebody took it' }),
      }),
    ),
  })
  .meta({ id: 'Uploads' })

export const RefreshResponse = z.object({ files: z.int(), revision: RevisionSchema }).meta({ id: 'Refresh' })
