import { type ContentId, type FileName, parseContentId } from '../../common/ids.ts'
import type { Random } from '../../common/random.ts'
import type { PeerContact } from '../contact.ts'
import { Flood, type FloodOptions } from '../flood/flood.ts'
import type { LocalFile, LocalFiles } from '../locate/local.ts'
import { NOBODY } from './acquaintances.ts'
import type { Population } from './population.ts'
import { below } from './seeded.ts'
import type { SimulatedPeer } from './simulated-peer.ts'
import { mean } from './statistics.ts'

/** What many floods brought. */
export interface FloodResults {
  readonly queries: number
  /** that found a provider at least */
  readonly found: number
  /** providers found by a query, on average */
  readonly providers: number
  /** a query: it passed on, hits, and taken back, each on each link */
  readonly messages: number
  /** links to the nearest provider, where one was found */
  readonly hops: number
}

export interface FloodingOptions {
  /** links of a peer on average; each begins half of them */
  degree: number
  queries: number
  /** providers of what a query looks for; each in turn */
  copies: readonly number[]
  flood?: Partial<FloodOptions>
  progress?: (done: number) => void
}

/** Flooding as in the first Gnutella: seven links far over all links, and nothing else. */
export const PLAIN: Partial<FloodOptions> = { rounds: [{ ttl: 7, scope: 'all', timeMs: 5000 }] }
/** After a search what it left behind travels on, ms; it also keeps neighbours from being asked too much. */
const PAUSE_MS = 3000
const CONTENT = parseContentId('ab'.repeat(32))

/**
 * Makes a random graph of these peers, and searches: each time for another name, which so many peers by chance share,
 * from a peer by chance that does not. The graph, the names and who asks depend on `random` alone.
 */
export async function flooding(
  { network, clock, random: chance }: Population,
  peers: readonly SimulatedPeer[],
  random: Random,
  { degree, queries, copies, flood = {}, progress = () => {} }: FloodingOptions,
): Promise<FloodResults> {
  const graph = randomGraph(peers.length, degree, random)
  const field = peers.map((peer, i) => {
    const links = graph[i]!.map((j): PeerContact => peers[j]!.member)
    const files = new Names()
    const self = () => peer.member
    const node = new Flood(
      { self, network: network.floodOf(peer.member), links: () => links, known: NOBODY, files, clock, random: chance },
      flood,
    )
    peer.settle({ flood: node })
    return { node, files }
  })
  const before = clock.now()
  const found: { providers: number; messages: number; hops: number | null }[] = []
  for (let i = 0; i < queries; i++) {
    const name = `sought-${before}-${i}.bin` as FileName
    const origin = field[below(random, field.length)]!
    for (let left = Math.min(copies[i % copies.length]!, field.length - 1); left > 0; ) {
      const { node, files } = field[below(random, field.length)]!
      if (node !== origin.node && files.put(name)) left--
    }
    const traffic = network.traffic.messages
    const search = origin.node.search({ kind: 'name', name }, new AbortController().signal)
    const providers = await clock.run(countOf(search))
    await clock.runUntil(clock.now() + PAUSE_MS)
    found.push({ providers, messages: network.traffic.messages - traffic, hops: search.trace.hops })
    progress(i + 1)
  }
  const successes = found.filter(({ providers }) => providers > 0)
  return {
    queries,
    found: successes.length,
    providers: mean(found.map(({ providers }) => providers)),
    messages: mean(found.map(({ messages }) => messages)),
    hops: mean(successes.flatMap(({ hops }) => hops ?? [])),
  }
}

/** Who is linked to whom. Each begins links to others by chance, as agents do; so nobody has fewer. */
function randomGraph(peers: number, degree: number, random: Random): readonly number[][] {
  const links = Array.from({ length: peers }, () => new Set<number>())
  for (let i = 0; i < peers; i++)
    for (let j = 0; j < degree / 2; j++) {
      const other = below(random, peers)
      if (other === i) continue
      links[i]!.add(other)
      links[other]!.add(i)
    }
  return links.map((others) => [...others])
}

/** A catalog of names. */
class Names implements LocalFiles {
  readonly #files = new Map<FileName, LocalFile>()

  /** @returns whether it was not there */
  put(name: FileName): boolean {
    if (this.#files.has(name)) return false
    this.#files.set(name, { name, id: CONTENT, size: 1000, mtimeNs: 0n })
    return true
  }

  get(name: FileName): LocalFile | undefined {
    return this.#files.get(name)
  }

  byId(id: ContentId): LocalFile[] {
    return [...this.#files.values()].filter((file) => file.id === id)
  }

  search(text: string): LocalFile[] {
    return [...this.#files.values()].filter(({ name }) => name.includes(text))
  }
}

async function countOf(items: AsyncIterable<unknown>): Promise<number> {
  let count = 0
  for await (const _ of items) count++
  return count
}
