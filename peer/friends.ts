import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { z } from 'zod'
import { isLoopback, parseAdvertised, parseRestUrl } from '../common/address.ts'
import { errnoOf, NetworkError } from '../common/errors.ts'
import type { ContentId, PeerId } from '../common/ids.ts'
import type { Logger } from '../common/log.ts'
import { RestClient } from '../common/rest-client.ts'
import {
  type Friend,
  LIMITS,
  PeerFileSchema,
  PeerFilesResponse,
  PeerInfo,
  type PeerSearchQuery,
  PeerSearchResponse,
  SwarmMembersResponse,
  type SwarmPeerBody,
} from '../common/schemas.ts'
import type { PeerContact } from './contact.ts'
import type { FriendPeer } from './locate/friends.ts'
import type { SwarmFriend } from './neighbours.ts'
import type { FriendPages } from './transfer/folder/listing.ts'

export interface FriendsOptions {
  /** who this peer is: it is no friend of its own */
  self: PeerId
  primary?: string | undefined
  backup?: string | undefined
  /** JSON file that keeps the added ones */
  file: string
  /** bound on one question, ms */
  timeoutMs: number
}

const MAX_FRIENDS = 64
/** Bound on a page of a friend's files, ms. */
const LISTING_MS = 5000
const DetailedFiles = PeerFilesResponse.required({ grpc_port: true }).extend({
  files: z.array(PeerFileSchema).max(LIMITS.pageSize),
})
const Identity = PeerInfo.pick({ id: true, rest_url: true, grpc_port: true })
const Saved = z.array(z.string()).max(MAX_FRIENDS)

/** One friend: asked over REST, remembered with what was last seen of it. */
class FriendClient implements FriendPeer, FriendPages, SwarmFriend {
  readonly url: string
  readonly role: Friend['role']
  id: PeerId | null = null
  alive: boolean | null = null
  /** where its other protocols are spoken; undefined until it was identified, and where that can't be told */
  contact: PeerContact | undefined
  readonly #rest: RestClient

  constructor(url: string, role: Friend['role'], timeoutMs: number) {
    this.url = url
    this.role = role
    this.#rest = new RestClient({ name: 'the friend', baseUrl: url, timeoutMs })
  }

  async search(query: PeerSearchQuery, signal: AbortSignal) {
    const answer = await this.#ask(this.#rest.call('GET', '/search', PeerSearchResponse, { query, signal }))
    this.#is(answer.peer)
    return answer
  }

  async swarm(id: ContentId, signal: AbortSignal): Promise<SwarmPeerBody[]> {
    return (await this.#ask(this.#rest.call('GET', `/swarms/${id}`, SwarmMembersResponse, { signal }))).peers
  }

  /** A page of what it shares in a folder; that may take it longer than one lookup. */
  async files(page: Parameters<FriendPages['files']>[0], signal: AbortSignal) {
    const options = { query: { ...page, details: '1' }, signal, timeoutMs: LISTING_MS }
    const answer = await this.#ask(this.#rest.call('GET', '/files', DetailedFiles, options))
    this.#is(answer.peer)
    return answer
  }

  async identify(signal?: AbortSignal): Promise<PeerId> {
    const { id, rest_url, grpc_port } = await this.#ask(this.#rest.call('GET', '/info', Identity, { signal }))
    this.#is(id)
    const address = addressOf(this.url, rest_url)
    this.contact = address && { peer: id, ...address, grpcPort: grpc_port }
    return id
  }

  /** Another peer may answer there from one day to the next. */
  #is(id: PeerId): void {
    if (this.contact?.peer !== id) this.contact = undefined
    this.id = id
  }

  async #ask<T>(answer: Promise<T>): Promise<T> {
    try {
      const received = await answer
      this.alive = true
      return received
    } catch (error) {
      if (error instanceof NetworkError && error.code === 'unavailable') this.alive = false
      throw error
    }
  }

  close(): Promise<void> {
    return this.#rest.close()
  }
}

/**
 * Where a friend is, for those that need an IP address: as its user wrote it, else as it advertises itself, where a
 * peer can be there. Undefined where neither is one.
 */
export function addressOf(url: string, advertised: string): Pick<PeerContact, 'host' | 'restPort'> | undefined {
  const { host, port } = parseRestUrl(url)
  if (isIP(host) !== 0) return { host, restPort: port }
  if (isLoopback(host)) return { host: '127.0.0.1', restPort: port }
  try {
    const told = parseAdvertised(advertised, host)
    return isIP(told.host) === 0 ? undefined : { host: told.host, restPort: told.port }
  } catch {
    return undefined
  }
}

/** The peers that are asked directly: the configured primary and backup, and those added since. */
export class Friends {
  readonly #options: FriendsOptions
  #friends: FriendClient[] = []

  /** @throws NetworkError `invalid` where a configured URL is none */
  constructor(deps: { log: Logger }, options: FriendsOptions) {
    this.#options = options
    if (options.primary !== undefined) this.#insert(options.primary, 'primary')
    if (options.backup !== undefined) this.#insert(options.backup, 'backup')
    for (const url of readSaved(options.file, deps.log)) this.#insert(url, 'added')
  }

  /** In the order in which they are asked. */
  peers(): readonly (FriendPeer & FriendPages & SwarmFriend)[] {
    return this.#friends
  }

  list(): Friend[] {
    return this.#friends.map(({ url, role, id, alive }) => ({ url, role, id, alive }))
  }

  /** Friends whose address is known, without this peer itself; `identify` finds more. */
  contacts(): PeerContact[] {
    return this.#friends.flatMap(({ contact }) => (contact && contact.peer !== this.#options.self ? [contact] : []))
  }

  /**
   * Asks those that are not known yet who they are, all at a time; who does not answer is asked the next time.
   * @param isThere whether one that was known is still believed to be at that address: it may have begun anew, with
   *   another port
   */
  async identify(signal?: AbortSignal, isThere: (contact: PeerContact) => boolean = () => true): Promise<void> {
    const strangers = this.#friends.filter(({ contact }) => contact === undefined || !isThere(contact))
    await Promise.allSettled(strangers.map((friend) => friend.identify(signal)))
  }

  /**
   * Adds a peer that answers. One that is there already, under whatever address, changes nothing.
   * @throws NetworkError `unavailable` where it does not answer; `invalid` for no URL, or this peer itself; `limited`
   *   where the list is full
   */
  async add(text: string): Promise<void> {
    const { url } = parseRestUrl(text)
    if (this.#friends.some((f) => f.url === url)) return
    const friend = new FriendClient(url, 'added', this.#options.timeoutMs)
    try {
      const strangers = this.#friends.filter((f) => f.id === null)
      const [id] = await Promise.all([friend.identify(), Promise.allSettled(strangers.map((f) => f.identify()))])
      if (id === this.#options.self) throw new NetworkError('invalid', `${url} is this agent itself`)
      if (this.#friends.some((f) => f.id === id || f.url === url)) return await friend.close()
      if (this.#friends.length >= MAX_FRIENDS)
        throw new NetworkError('limited', `${MAX_FRIENDS} friends are the most: remove one first`)
      this.#save([...this.#friends, friend])
      this.#friends.push(friend)
    } catch (error) {
      await friend.close()
      throw error
    }
  }

  /** @throws NetworkError `not_found`; `conflict` for the primary and the backup, which the configuration names */
  async remove(text: string): Promise<void> {
    const { url } = parseRestUrl(text)
    const friend = this.#friends.find((f) => f.url === url)
    if (!friend) throw new NetworkError('not_found', `${url} is not in the friend list`)
    if (friend.role !== 'added')
      throw new NetworkError('conflict', `${url} is the ${friend.role} friend: change it in the configuration`)
    const others = this.#friends.filter((f) => f !== friend)
    this.#save(others)
    this.#friends = others
    await friend.close()
  }

  async close(): Promise<void> {
    await Promise.all(this.#friends.map((friend) => friend.close()))
  }

  #insert(text: string, role: Friend['role']): void {
    const { url } = parseRestUrl(text)
    if (!this.#friends.some((f) => f.url === url))
      this.#friends.push(new FriendClient(url, role, this.#options.timeoutMs))
  }

  #save(friends: readonly FriendClient[]): void {
    const added = friends.filter((f) => f.role === 'added').map((f) => f.url)
    writeFileSync(`${this.#options.file}.new`, JSON.stringify(added))
    renameSync(`${this.#options.file}.new`, this.#options.file)
  }
}

function readSaved(file: string, log: Logger): string[] {
  try {
    return Saved.parse(JSON.parse(readFileSync(file, 'utf8'))).filter((url) => {
      try {
        return Boolean(parseRestUrl(url))
      } catch {
        return false
      }
    })
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') log.warn({ file, err: error }, 'the friend list is unreadable and begins empty')
    return []
  }
}
