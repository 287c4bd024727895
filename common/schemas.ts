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
import { MAX_FILE_SIZE } from './merkle.ts'

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
    uptime_s: z.number(),
    version: z.string(),
  })
  .meta({ id: 'PeerInfo' })
export type PeerInfo = z.infer<typeof PeerInfo>

export const PeerFilesQuery = PageQuery.extend({ details: z.enum(['0', '1']).default('0') })
export const PeerFilesResponse = z
  .object({ peer: PeerIdSchema, files: z.array(z.union([FileNameSchema, PeerFileSchema])), next: Next })
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

export const STRATEGIES = ['local', 'maestro', 'friends'] as const
export const StrategyNameSchema = z.enum(STRATEGIES)
export type StrategyName = z.infer<typeof StrategyNameSchema>

export const StepSchema = z
  .object({
    strategy: StrategyNameSchema,
    asked: z.string().meta({ description: 'whom: a peer or URL' }),
    outcome: z.enum(['found', 'nothing', 'unreachable', 'timeout', 'refused']),
    found: z.int(),
    ms: z.number(),
    detail: z.string().nullable(),
  })
  .meta({ id: 'LookupStep' })
export type LookupStep = z.infer<typeof StepSchema>

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
  })
  .meta({ id: 'PeerLocate' })
export type PeerLocateResponse = z.infer<typeof PeerLocateResponse>

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
export const KnownPeersResponse = z
  .object({ peers: z.array(z.object({ id: PeerIdSchema.nullable(), rest: UrlSchema })) })
  .meta({ id: 'KnownPeers' })

export const TransferRequest = z
  .object({
    file: FileNameQuery.optional().meta({ description: 'what to download, by name' }),
    id: ContentIdQuery.optional().meta({ description: '…or by content id' }),
    as: FileNameQuery.optional().meta({
      description: 'name under which it lands in the shared folder (default: its own)',
    }),
    via: StrategyNameSchema.optional(),
    mode: TransferModeSchema.optional().meta({ description: "default: the agent's own" }),
  })
  .refine((request) => request.file !== undefined || request.id !== undefined, {
    error: 'give "file" or "id"',
    path: ['file'],
  })
  .meta({ id: 'TransferRequest' })
export type TransferRequest = z.input<typeof TransferRequest>

const END_STATES = ['done', 'simulated', 'failed', 'cancelled'] as const
export type EndState = (typeof END_STATES)[number]
export const TransferStateSchema = z.enum(['locating', 'running', 'verifying', ...END_STATES])
export type TransferState = z.infer<typeof TransferStateSchema>

/** Whether a transfer in this state changes no more. */
export function isEndState(state: TransferState): state is EndState {
  return (END_STATES as readonly TransferState[]).includes(state)
}

export const TransferSchema = z
  .object({
    transfer: z.string(),
    state: TransferStateSchema,
    mode: TransferModeSchema,
    file: z.string().nullable(),
    id: ContentIdSchema.nullable(),
    size: SizeSchema.nullable(),
    bytes: z.int().meta({ description: 'verified so far (dummy: that would have been)' }),
    resumed_bytes: z.int().meta({ description: 'of these, found verified on disk from before' }),
    rate: z.number().meta({ description: 'bytes a second, of late' }),
    via: StrategyNameSchema.nullable(),
    providers: z.array(z.object({ peer: PeerIdSchema, bytes: z.int() })),
    steps: z.array(StepSchema),
    notes: z.array(z.string()).meta({ description: 'what went wrong on the way, such as a provider dropped and why' }),
    error: z.looseObject({ code: z.string(), message: z.string() }).nullable(),
    started: z.string(),
    seconds: z.number(),
  })
  .meta({ id: 'Transfer' })
export type TransferBody = z.infer<typeof TransferSchema>
export const TransfersResponse = z.object({ transfers: z.array(TransferSchema) }).meta({ id: 'Transfers' })

export const RefreshResponse = z.object({ files: z.int(), revision: RevisionSchema }).meta({ id: 'Refresh' })
