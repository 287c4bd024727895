import { setMaxListeners } from 'node:events'
import { type ContentId, type FileName, parseContentId, parseFileName, parsePeerId } from '../../common/ids.ts'
import type { Random } from '../../common/random.ts'
import { searchNames } from '../catalog/search.ts'
import type { PeerContact } from '../contact.ts'
import type { LocalFile, LocalFiles } from '../locate/local.ts'
import type { KnownPeers } from '../overlay/protocol.ts'
import { SimulatedNetwork } from '../simulate/network.ts'
import { seededRandom } from '../simulate/seeded.ts'
import { VirtualClock } from '../simulate/virtual-clock.ts'
import { Flood, type FloodOptions } from './flood.ts'
import type { FloodHandlers } from './protocol.ts'

export const ALIVE = new AbortController().signal
setMaxListeners(0, ALIVE)

export function contactOf(number: number): PeerContact {
  const host = `10.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`
  return { peer: parsePeerId(`p${number}`), host, restPort: 8000, grpcPort: 50051 }
}

/** A catalog in memory. */
export class Shelf implements LocalFiles {
  readonly #files = new Map<FileName, LocalFile>()

  put(name: string, content = 'ab'.repeat(32)): void {
    const file = { name: parseFileName(name), id: parseContentId(content), size: 5, mtimeNs: 0n }
    this.#files.set(file.name, file)
  }

  remove(name: string): void {
    this.#files.delete(parseFileName(name))
  }

  get(name: FileName): LocalFile | undefined {
    return this.#files.get(name)
  }

  byId(id: ContentId): LocalFile[] {
    return [...this.#files.values()].filter((file) => file.id === id)
  }

  search(text: string, limit: number): LocalFile[] {
    return searchNames(this.#files.keys(), text, limit).map((name) => this.#files.get(name)!)
  }
}

/** Peers of the unstructured network on virtual time, with the links that a test gives them. */
export class FloodWorld {
  readonly clock = new VirtualClock()
  readonly random: Random
  readonly network: SimulatedNetwork
  readonly floods: Flood[] = []
  readonly shelves: Shelf[] = []
  readonly links: PeerContact[][] = []
  readonly missed: PeerContact[] = []

  constructor(size: number, options: Partial<FloodOptions> = {}, seed = 1) {
    this.random = seededRandom(seed)
    this.network = new SimulatedNetwork({ clock: this.clock, random: this.random })
    const known: KnownPeers = {
      alive: () => [],
      lost: () => [],
      seen: () => {},
      missed: (contact) => this.missed.push(contact),
    }
    for (let i = 0; i < size; i++) {
      const self = contactOf(i)
      const files = new Shelf()
      this.shelves.push(files)
      this.links.push([])
      const { clock, random, network } = this
      const deps = { network: network.floodOf(self), links: () => this.links[i]!, known, files, clock, random }
      const flood = new Flood({ ...deps, self: () => self }, options)
      this.floods.push(flood)
      network.settle(self, { flood })
    }
  }

  link(a: number, b: number): void {
    if (a === b || this.links[a]!.some(({ peer }) => peer === contactOf(b).peer)) return
    this.links[a]!.push(contactOf(b))
    this.links[b]!.push(contactOf(a))
  }

  /** Links at random until each peer has so many in the mean, none less than two. */
  linkAtRandom(meanDegree: number): void {
    for (const i of this.links.keys())
      for (let j = 0; j < meanDegree / 2; j++) this.link(i, Math.floor(this.random() * this.links.length))
  }

  /** Puts another in the place of a peer. */
  replace(number: number, flood: FloodHandlers): void {
    this.network.settle(contactOf(number), { flood })
  }

  get load(): { queries: number; calls: number } {
    const loads = this.floods.map(({ load }) => load)
    return {
      queries: loads.reduce((sum, { queries }) => sum + queries, 0),
      calls: loads.reduce((sum, { calls }) => sum + calls, 0),
    }
  }
}

/** All that comes. */
export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}

/** The first that comes; whoever gets it leaves. */
export async function first<T>(items: AsyncIterable<T>): Promise<T | undefined> {
  for await (const item of items) return item
  return undefined
}
