import { z } from 'zod'
import { NetworkError } from './errors.ts'
import type { NetworkEvent } from './events/event.ts'
import type { Mail } from './events/mail.ts'
import { MailboxCount, MailboxResponse, PublishResponse } from './events/rest.ts'
import { type EventConnection, openEventStream } from './events/sse-client.ts'
import { type WatchedEvent, type WatchOptions, watchEvents } from './events/watch.ts'
import type { ContentId, FileName, PeerId } from './ids.ts'
import { pagesOf } from './paging.ts'
import { type CallOptions, RestClient } from './rest-client.ts'
import {
  DirectoryResponse,
  type FileEntry,
  type Lease,
  LeaseSchema,
  LIMITS,
  MaestroInfo,
  MaestroLocateResponse,
  type PeerRow,
  PeersResponse,
  SearchResponse,
  type SwarmRequest,
  SwarmResponse,
} from './schemas.ts'

export interface Announcement {
  id: PeerId
  /** REST URL as other hosts reach it */
  rest: string
  grpcPort: number
  /** the catalog's revision that `files` is */
  revision: number
  files: readonly FileEntry[]
}

/** Rows, and the `next` of the page before. */
type Page = {
  limit?: number
  after?: string | undefined
}

/** Peers in one page of all: each comes with up to 100 names. */
const PEERS_PAGE = 200
/** Bytes of JSON that one part of an announcement aims at: parts stay well below the server's limit. */
const PAGE_BYTES = 2 * 1024 * 1024

/** Events and mail are durable where they are acknowledged, which a busy disk delays, ms. */
const KEEP_MS = 15_000
/** A message that one newer than this program may have left is for whoever reads the mailbox to judge. */
const UnreadMailbox = MailboxResponse.extend({ mail: z.array(z.unknown()).max(LIMITS.pageSize) })

/** The Maestro as a peer or the CLI sees it. */
export class MaestroClient {
  readonly #rest: RestClient

  readonly #silenceMs: number | undefined

  /** `silenceMs`: after which a stream of events that brings nothing is taken for dead (default 45,000) */
  constructor(baseUrl: string, options: { timeoutMs?: number; silenceMs?: number } = {}) {
    const { silenceMs, ...others } = options
    this.#rest = new RestClient({ name: 'the Maestro', baseUrl, ...others })
    this.#silenceMs = silenceMs
  }

  get url(): string {
    return this.#rest.baseUrl
  }

  info(options?: CallOptions): Promise<z.infer<typeof MaestroInfo>> {
    return this.#rest.call('GET', '/', MaestroInfo, options)
  }

  /**
   * Registers with every file, in as many requests as their number needs: the first replaces what the Maestro held of
   * this peer, at revision 0 while more follow; the last brings it to the announced revision.
   */
  async register(announcement: Announcement, signal?: AbortSignal): Promise<Lease> {
    const { id, rest, grpcPort, revision, files } = announcement
    const parts = [...partsOf(files)]
    const complete = parts.length <= 1
    let lease = await this.#rest.call('POST', '/register', LeaseSchema, {
      body: { id, peer: rest, grpc_port: grpcPort, revision: complete ? revision : 0, files: parts[0] ?? [] },
      signal,
      timeoutMs: 30_000,
    })
    for (const [i, add] of parts.slice(1).entries())
      lease = await this.patch(id, { from: 0, to: i === parts.length - 2 ? revision : 0, add, remove: [] }, signal)
    return lease
  }

  heartbeat(id: PeerId, revision: number, signal?: AbortSignal): Promise<Lease> {
    return this.#rest.call('POST', '/heartbeat', LeaseSchema, { body: { id, revision }, signal })
  }

  /** One request; see `announceChanges` for any number of changes. */
  patch(
    id: PeerId,
    patch: { from: number; to: number; add: readonly FileEntry[]; remove: readonly FileName[] },
    signal?: AbortSignal,
  ): Promise<Lease> {
    return this.#rest.call('PATCH', `/peers/${encodeURIComponent(id)}/files`, LeaseSchema, {
      body: patch,
      signal,
      timeoutMs: 30_000,
    })
  }

  /** Changes between two revisions, in as many requests as their number needs; only the last one moves the revision. */
  async announceChanges(
    id: PeerId,
    change: { from: number; to: number; add: readonly FileEntry[]; remove: readonly FileName[] },
    signal?: AbortSignal,
  ): Promise<Lease> {
    const { from, to } = change
    const parts = [
      ...chunks(change.remove, LIMITS.filesPerRequest / 2).map((remove) => ({
        add: [] as readonly FileEntry[],
        remove,
      })),
      ...[...partsOf(change.add)].map((add) => ({ add, remove: [] as readonly FileName[] })),
    ]
    // A small change is one request, and so atomic.
    if (change.remove.length + change.add.length <= LIMITS.filesPerRequest / 2 && parts.length <= 2)
      return this.patch(id, change, signal)
    let lease: Lease | undefined
    for (const [i, part] of parts.entries())
      lease = await this.patch(id, { from, to: i === parts.length - 1 ? to : from, ...part }, signal)
    if (!lease) throw new NetworkError('invalid', 'a change that changes nothing')
    return lease
  }

  async withdraw(id: PeerId, signal?: AbortSignal): Promise<void> {
    await this.#rest.call('DELETE', `/peers/${encodeURIComponent(id)}`, z.unknown(), { signal })
  }

  locate(
    query: { file?: FileName; id?: ContentId },
    options?: CallOptions,
  ): Promise<z.infer<typeof MaestroLocateResponse>> {
    return this.#rest.call('GET', '/locate', MaestroLocateResponse, { ...options, query })
  }

  /** Announces a taker of a content (or that it leaves); @returns others of its swarm, and when to announce it again. */
  swarm(id: ContentId, announcement: SwarmRequest, signal?: AbortSignal): Promise<SwarmResponse> {
    return this.#rest.call('POST', `/swarms/${id}`, SwarmResponse, { body: announcement, signal })
  }

  peers(page: Page = {}, options?: CallOptions): Promise<z.infer<typeof PeersResponse>> {
    return this.#rest.call('GET', '/peers', PeersResponse, { ...options, query: page })
  }

  /** All live peers, page by page. */
  async *allPeers(options?: CallOptions): AsyncGenerator<PeerRow> {
    const pages = pagesOf((after) => this.peers({ limit: PEERS_PAGE, after }, options))
    for await (const { peers } of pages) yield* peers
  }

  /** Names, all or those in one folder, with their providers. */
  directory(
    page: Page & { under?: FileName | undefined } = {},
    options?: CallOptions,
  ): Promise<z.infer<typeof DirectoryResponse>> {
    return this.#rest.call('GET', '/directory', DirectoryResponse, { ...options, query: page })
  }

  search(q: string, page: Page = {}, options?: CallOptions): Promise<z.infer<typeof SearchResponse>> {
    return this.#rest.call('GET', '/search', SearchResponse, { ...options, query: { q, ...page } })
  }

  /** One request: at most `EVENT_LIMITS.batch` events. */
  publishEvents(events: readonly NetworkEvent[], signal: AbortSignal): Promise<z.infer<typeof PublishResponse>> {
    return this.#rest.call('POST', '/events', PublishResponse, { body: { events }, signal, timeoutMs: KEEP_MS })
  }

  /**
   * Opens the stream of events, after the one of `lastEventId` where there is one, else from now on. Messages named "mail"
   * among them say that there is something in that mailbox.
   */
  openEvents(
    { mailbox, lastEventId }: { mailbox: PeerId; lastEventId: string | undefined },
    signal: AbortSignal,
  ): Promise<EventConnection> {
    return openEventStream(this.#rest, '/events', {
      query: { mailbox },
      ...(lastEventId === undefined ? {} : { headers: { 'last-event-id': lastEventId } }),
      signal,
      silenceMs: this.#silenceMs,
    })
  }

  /** What happens, for whoever watches; see `watchEvents`. */
  events(options: WatchOptions, signal: AbortSignal): AsyncGenerator<WatchedEvent> {
    return watchEvents(this.#rest, options, { signal, silenceMs: this.#silenceMs })
  }

  /** Leaves a message in the mailbox of `mail.to`. */
  sendMail(mail: Mail, signal: AbortSignal): Promise<z.infer<typeof MailboxCount>> {
    return this.#rest.call('POST', mailboxPath(mail.to), MailboxCount, { body: { mail }, signal, timeoutMs: KEEP_MS })
  }

  /** What waits in a mailbox, oldest first, as it was left. */
  mailbox(peer: PeerId, page: Page, signal: AbortSignal): Promise<z.infer<typeof UnreadMailbox>> {
    return this.#rest.call('GET', mailboxPath(peer), UnreadMailbox, { query: page, signal })
  }

  /** Removes messages from a mailbox. */
  taken(peer: PeerId, ids: readonly string[], signal: AbortSignal): Promise<z.infer<typeof MailboxCount>> {
    const path = `${mailboxPath(peer)}/taken`
    return this.#rest.call('POST', path, MailboxCount, { body: { ids }, signal, timeoutMs: KEEP_MS })
  }

  close(): Promise<void> {
    return this.#rest.close()
  }
}

function mailboxPath(peer: PeerId): string {
  return `/mailboxes/${encodeURIComponent(peer)}`
}

function* partsOf(files: readonly FileEntry[]): Generator<readonly FileEntry[]> {
  let begin = 0
  let bytes = 0
  for (let i = 0; i < files.length; i++) {
    bytes += files[i]!.name.length * 2 + 120
    if (i + 1 - begin < LIMITS.filesPerRequest && bytes < PAGE_BYTES) continue
    yield files.slice(begin, i + 1)
    begin = i + 1
    bytes = 0
  }
  if (begin < files.length) yield files.slice(begin)
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  const result: T[][] = []
  for (let i = 0; i < items.length; i += size) result.push(items.slice(i, i + size))
  return result
}
