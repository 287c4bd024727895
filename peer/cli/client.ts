import type { Readable } from 'node:stream'
import { z } from 'zod'
import { NetworkError } from '../../common/errors.ts'
import {
  type AgentMailbox,
  AgentMailboxResponse,
  type FollowBody,
  type FollowRequest,
  FollowSchema,
  FollowsResponse,
  OFFERS_PER_QUERY,
  type OfferBody,
  type SendOfferRequest,
  SendOfferResponse,
} from '../../common/events/rest.ts'
import { serverSentEvents } from '../../common/events/sse-parser.ts'
import { type WatchedEvent, type WatchOptions, watchEvents } from '../../common/events/watch.ts'
import type { FileName } from '../../common/ids.ts'
import { pagesOf } from '../../common/paging.ts'
import { type CallOptions, RestClient } from '../../common/rest-client.ts'
import {
  type DiscoverBody,
  DiscoverResponse,
  FriendsResponse,
  KnownPeersResponse,
  type LimitsBody,
  type LimitsChange,
  LimitsResponse,
  type PeerFile,
  PeerFileSchema,
  PeerFilesResponse,
  PeerInfo,
  PeerLocateResponse,
  type PeerSearchQuery,
  PeerSearchResponse,
  RefreshResponse,
  type RingBody,
  RingResponse,
  type StrategyName,
  type TransferBody,
  type TransferRequest,
  TransferSchema,
  TransfersResponse,
} from '../../common/schemas.ts'

/** A chain of strategies, each bounded by the agent, takes as long as its steps together. */
const LOOKUP_MS = 180_000
/** Peers that are told of are tried before they are kept. */
const DISCOVER_MS = 60_000
/** A scan hashes what is new; the one who waits for it may interrupt. */
const NO_LIMIT = 0
const PAGE = 1000

export interface ClientOptions {
  /** for error messages: `the agent` */
  name: string
  url: string
  token?: string | undefined
  /** for one answer, where the call has no bound of its own, ms (default 10,000) */
  timeoutMs?: number | undefined
}

/** A peer's REST, as the CLI uses it: the own agent's, with the user's token, or another peer's. */
export class PeerClient {
  readonly url: string
  readonly #rest: RestClient
  readonly #signal: AbortSignal

  /** `signal` ends every call. */
  constructor(deps: { signal: AbortSignal }, options: ClientOptions) {
    const { name, url, token, timeoutMs } = options
    this.url = url
    this.#signal = deps.signal
    this.#rest = new RestClient({ name, baseUrl: url, token, timeoutMs: timeoutMs ?? 10_000 })
  }

  info(): Promise<PeerInfo> {
    return this.#call('GET', '/info', PeerInfo)
  }

  /** All it shares, page by page. */
  async *files(): AsyncGenerator<PeerFile> {
    const pages = pagesOf((after) =>
      this.#call('GET', '/files', DetailedFiles, { query: { details: '1', limit: PAGE, after } }),
    )
    for await (const { files } of pages) yield* files
  }

  search(query: PeerSearchQuery): Promise<z.infer<typeof PeerSearchResponse>> {
    return this.#call('GET', '/search', PeerSearchResponse, { query: { ...query } })
  }

  locate(query: PeerSearchQuery, via?: StrategyName): Promise<PeerLocateResponse> {
    return this.#call('GET', '/locate', PeerLocateResponse, { query: { ...query, via }, timeoutMs: LOOKUP_MS })
  }

  refresh(): Promise<z.infer<typeof RefreshResponse>> {
    return this.#call('POST', '/refresh', RefreshResponse, { timeoutMs: NO_LIMIT })
  }

  friends(): Promise<z.infer<typeof FriendsResponse>> {
    return this.#call('GET', '/friends', FriendsResponse)
  }

  addFriend(url: string): Promise<z.infer<typeof FriendsResponse>> {
    return this.#call('POST', '/friends', FriendsResponse, { body: { url } })
  }

  removeFriend(url: string): Promise<z.infer<typeof FriendsResponse>> {
    return this.#call('DELETE', '/friends', FriendsResponse, { query: { url } })
  }

  knownPeers(): Promise<z.infer<typeof KnownPeersResponse>> {
    return this.#call('GET', '/peers', KnownPeersResponse)
  }

  /** Has it ask the peer at a URL whom it knows, and try each of them. */
  discover(url: string): Promise<DiscoverBody> {
    return this.#call('POST', '/discover', DiscoverResponse, { body: { url }, timeoutMs: DISCOVER_MS })
  }

  ring(): Promise<RingBody> {
    return this.#call('GET', '/ring', RingResponse)
  }

  limits(): Promise<LimitsBody> {
    return this.#call('GET', '/limits', LimitsResponse)
  }

  setLimits(change: LimitsChange): Promise<LimitsBody> {
    return this.#call('PUT', '/limits', LimitsResponse, { body: change })
  }

  resetLimits(): Promise<LimitsBody> {
    return this.#call('DELETE', '/limits', LimitsResponse)
  }

  follows(): Promise<z.infer<typeof FollowsResponse>> {
    return this.#call('GET', '/follows', FollowsResponse)
  }

  /** Has it fetch what anyone shares under a pattern; `quota` in bytes. */
  follow(request: z.input<typeof FollowRequest>): Promise<FollowBody> {
    return this.#call('POST', '/follows', FollowSchema, { body: request })
  }

  unfollow(pattern: string): Promise<z.infer<typeof FollowsResponse>> {
    return this.#call('DELETE', '/follows', FollowsResponse, { query: { pattern } })
  }

  /** Offers made by it, and to it. */
  mailbox(): Promise<AgentMailbox> {
    return this.#call('GET', '/mailbox', AgentMailboxResponse)
  }

  /** Those of the offers made by it, as they are now. */
  async *offersSent(ids: readonly string[]): AsyncGenerator<OfferBody> {
    for (let from = 0; from < ids.length; from += OFFERS_PER_QUERY) {
      const query = { sent: ids.slice(from, from + OFFERS_PER_QUERY).join(',') }
      yield* (await this.#call('GET', '/mailbox', AgentMailboxResponse, { query })).sent
    }
  }

  /** Has it offer a content that it shares to other peers. */
  offer(request: z.input<typeof SendOfferRequest>): Promise<z.infer<typeof SendOfferResponse>> {
    return this.#call('POST', '/mailbox', SendOfferResponse, { body: request })
  }

  transfers(): Promise<z.infer<typeof TransfersResponse>> {
    return this.#call('GET', '/transfers', TransfersResponse)
  }

  startTransfer(request: TransferRequest): Promise<TransferBody> {
    return this.#call('POST', '/transfers', TransferSchema, { body: request, timeoutMs: LOOKUP_MS })
  }

  transfer(id: string): Promise<TransferBody> {
    return this.#call('GET', transferPath(id), TransferSchema)
  }

  cancelTransfer(id: string): Promise<TransferBody> {
    return this.#last('DELETE', transferPath(id))
  }

  pauseTransfer(id: string): Promise<TransferBody> {
    return this.#last('POST', `${transferPath(id)}/pause`)
  }

  resumeTransfer(id: string): Promise<TransferBody> {
    return this.#call('POST', `${transferPath(id)}/resume`, TransferSchema)
  }

  /** `bytesPerSecond`: null for no limit of its own. */
  limitTransfer(id: string, bytesPerSecond: number | null): Promise<TransferBody> {
    return this.#call('PATCH', transferPath(id), TransferSchema, { body: { limit: bytesPerSecond } })
  }

  /** The states of a transfer, until its end state; `signal` ends it before. */
  transferEvents(id: string, signal?: AbortSignal): AsyncGenerator<TransferBody> {
    return this.#events(`${transferPath(id)}/events`, signal)
  }

  /** All transfers as they are, then each that changes, for as long as the agent runs. */
  allTransferEvents(): AsyncGenerator<TransferBody> {
    return this.#events('/transfers/events')
  }

  /** What happens, as it hears of it; see `watchEvents`. */
  events(options: WatchOptions = {}, signal?: AbortSignal): AsyncGenerator<WatchedEvent> {
    const both = signal ? AbortSignal.any([signal, this.#signal]) : this.#signal
    return watchEvents(this.#rest, options, { signal: both })
  }

  /** Streams `size` bytes to be shared under `name`. */
  async put(name: FileName, body: Readable, size: number): Promise<{ file: PeerFile; created: boolean }> {
    const path = `/files/${name.split('/').map(encodeURIComponent).join('/')}`
    const response = await this.#rest.send('PUT', path, {
      raw: body,
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(size) },
      signal: this.#signal,
      timeoutMs: NO_LIMIT,
    })
    const file = PeerFileSchema.safeParse(await response.body.json().catch(() => undefined))
    if (!file.success)
      throw new NetworkError('corrupt', `the agent at ${this.url} took the file, but its answer is unknown`, {
        reason: 'unknown_answer',
      })
    return { file: file.data, created: response.statusCode === 201 }
  }

  close(): Promise<void> {
    return this.#rest.close()
  }

  /** Works also once the user has interrupted: it is what an interrupted command ends with. */
  #last(method: 'POST' | 'DELETE', path: string): Promise<TransferBody> {
    return this.#rest.call(method, path, TransferSchema, { signal: AbortSignal.timeout(5000) })
  }

  async *#events(path: string, signal?: AbortSignal): AsyncGenerator<TransferBody> {
    const { body } = await this.#rest.send('GET', path, {
      signal: signal ? AbortSignal.any([signal, this.#signal]) : this.#signal,
      timeoutMs: NO_LIMIT,
      endless: true,
      headers: { accept: 'text/event-stream' },
    })
    for await (const { event, data } of serverSentEvents(body)) {
      if (event !== 'transfer') continue
      const parsed = TransferSchema.safeParse(jsonOf(data))
      if (!parsed.success)
        throw new NetworkError('corrupt', `the agent at ${this.url} sent an event that this program does not know`, {
          reason: 'unknown_answer',
        })
      yield parsed.data
    }
  }

  #call<S extends z.ZodType>(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    schema: S,
    options: CallOptions = {},
  ): Promise<z.output<S>> {
    return this.#rest.call(method, path, schema, { ...options, signal: this.#signal })
  }
}

function transferPath(id: string): string {
  return `/transfers/${encodeURIComponent(id)}`
}

const DetailedFiles = PeerFilesResponse.extend({ files: z.array(PeerFileSchema).max(PAGE) })

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
