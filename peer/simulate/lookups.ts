import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import { sha256 } from '../../common/merkle.ts'
import type { Visit } from '../dht/lookup.ts'
import type { ChordNode } from '../dht/node.ts'
import type { RingRecord } from '../dht/protocol.ts'
import { placeOfContent, placeOfName } from '../dht/ring.ts'
import type { Population } from './population.ts'
import { below } from './seeded.ts'
import type { SimulatedPeer } from './simulated-peer.ts'
import { type Distribution, distributionOf, mean } from './statistics.ts'

export interface SharedFile {
  readonly name: FileName
  readonly content: ContentId
  readonly provider: SimulatedPeer
}

/** What came of many lookups. */
export interface LookupResults {
  readonly lookups: number
  /** live members asked one after the other until the responsible one answered */
  readonly path: Distribution
  /** silent members asked before that */
  readonly timeouts: number
  /** sent for it, also to the replicas; each call and each answer counted as one */
  readonly messages: number
  /** ended in an error, or with another than the first live member that follows the key */
  readonly failed: number
  /** of these, such as named a wrong one without saying that it was a guess */
  readonly silentlyWrong: number
  /** lookups that found a record of a file; of keys of no file none */
  readonly found: number
}

/** What a lookup remembers of who was silent: nothing, as in the paper; or what this origin saw in its lookups. */
export type Memory = 'none' | 'own'

export interface LookupOptions {
  memory?: Memory
  /** called after some of them */
  progress?: (done: number) => void
}

/** What came of one. */
export interface Outcome {
  readonly hops: number
  readonly timeouts: number
  readonly messages: number
  readonly outcome: 'right' | 'error' | 'guess' | 'wrong'
  readonly found: boolean
}

/** Looked up at the same time; more would be faster to simulate, and take more memory. */
const AT_A_TIME = 500
/** Records of a key are kept at so many, as agents do. */
const REPLICAS = 6

/** Gives peers by chance one file each, and puts its records where its publisher would. */
export function share(population: Population, files: number): SharedFile[] {
  return Array.from({ length: files }, (_, i) => {
    const provider = population.one()
    const content = sha256(Buffer.from(`file ${i}`)).toString('hex') as ContentId
    const file = { name: `file-${i}.bin` as FileName, content, provider }
    publish(population, file)
    return file
  })
}

export function publish(population: Population, { name, content, provider }: SharedFile): void {
  const about = { name, content, size: 1000, provider: provider.member, ageMs: 0 }
  for (const [key, place] of [
    ['name', placeOfName(name)],
    ['content', placeOfContent(content)],
  ] as const) {
    const record: RingRecord = { key, ...about }
    for (let i = 0; i < Math.min(REPLICAS, population.members.length); i++)
      population.ownerOf(place, i).records.store([record], provider.member)
  }
}

/** So many lookups of the contents of these files, each from a member by chance, one after the other in groups. */
export async function lookUpAll(
  population: Population,
  files: readonly SharedFile[],
  count: number,
  { memory = 'none', progress = () => {} }: LookupOptions = {},
): Promise<LookupResults> {
  const outcomes: Outcome[] = []
  const twins = new Map<SimulatedPeer, ChordNode>()
  const nodeOf = (origin: SimulatedPeer) => {
    if (memory === 'none') return origin.twin(0)
    const twin = twins.get(origin) ?? origin.twin(Number.POSITIVE_INFINITY)
    twins.set(origin, twin)
    return twin
  }
  while (outcomes.length < count) {
    const group = Array.from({ length: Math.min(AT_A_TIME, count - outcomes.length) }, () => {
      const { content } = files[below(population.random, files.length)]!
      return lookUp(population, nodeOf(population.one()), content)
    })
    outcomes.push(...(await population.clock.run(Promise.all(group))))
    progress(outcomes.length)
  }
  return resultsOf(outcomes)
}

/** One lookup, judged by the truth when it ends. */
export async function lookUp(population: Population, node: ChordNode, content: ContentId): Promise<Outcome> {
  const place = placeOfContent(content)
  try {
    const finding = await node.find('content', content, new AbortController().signal)
    const isRight = population.isOwner(place, finding.owner)
    return {
      hops: finding.hops,
      timeouts: finding.timeouts,
      messages: messagesOf(finding.path),
      outcome: isRight ? 'right' : finding.unsure ? 'guess' : 'wrong',
      found: finding.records.length > 0,
    }
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error
    const path = Array.isArray(error.details.path) ? (error.details.path as Visit[]) : []
    const hops = path.filter(({ answered }) => answered).length
    return { hops, timeouts: path.length - hops, messages: messagesOf(path), outcome: 'error', found: false }
  }
}

export function resultsOf(outcomes: readonly Outcome[]): LookupResults {
  const ended = outcomes.filter(({ outcome }) => outcome !== 'error')
  const count = (is: (outcome: Outcome) => boolean) => outcomes.filter(is).length
  return {
    lookups: outcomes.length,
    path: distributionOf(ended.map(({ hops }) => hops)),
    timeouts: mean(ended.map(({ timeouts }) => timeouts)),
    messages: mean(outcomes.map(({ messages }) => messages)),
    failed: count(({ outcome }) => outcome !== 'right'),
    silentlyWrong: count(({ outcome }) => outcome === 'wrong'),
    found: count(({ found }) => found),
  }
}

function messagesOf(path: readonly Visit[]): number {
  return path.reduce((sum, { answered }) => sum + (answered ? 2 : 1), 0)
}
