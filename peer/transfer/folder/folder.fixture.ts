import { NetworkError } from '../../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../../common/ids.ts'
import { contentIdOf } from '../../../common/merkle.ts'
import type { Shelf, Shelved, SmallFile } from '../contents.ts'
import type { SmallContent, SmallSource, SmallStream } from '../small-source.ts'
import type { FolderLister, FolderProvider, FolderRow } from './listing.ts'

/** Providers of small contents, and a shelf for them, in memory. */

export class MemoryShelf implements Shelf {
  readonly files = new Map<string, { id: ContentId; data: Uint8Array }>()
  /** files that the disk takes before it is full */
  room = Number.POSITIVE_INFINITY
  batches = 0
  /** files that were on their way to the disk at one time */
  mostLanding = 0
  onBatch = () => {}
  #landing = 0

  put(name: string, data: Buffer): void {
    this.files.set(name, { id: contentIdOf(data), data })
  }

  get(name: FileName): { id: ContentId } | undefined {
    return this.files.get(name)
  }

  existing(name: FileName): ContentId | undefined {
    return this.files.get(name)?.id
  }

  reserve(): void {}

  async landAll(files: readonly SmallFile[]): Promise<Shelved[]> {
    this.batches++
    this.onBatch()
    this.#landing += files.length
    this.mostLanding = Math.max(this.mostLanding, this.#landing)
    await new Promise((resolve) => setImmediate(resolve))
    this.#landing -= files.length
    if (this.files.size + files.length > this.room)
      throw new NetworkError('unavailable', 'the disk is full: free some space', { reason: 'disk_full' })
    return files.map(({ name, manifest, data }) => {
      const there = this.files.get(name)
      if (there) return there.id === manifest.id ? 'here' : new NetworkError('conflict', `${name} exists already`)
      this.files.set(name, { id: manifest.id, data })
      return 'landed'
    })
  }
}

/** What a provider makes of an answer that would be right; `never` stays silent. */
export type Manner = (right: SmallContent[], asked: number) => SmallContent[] | 'never' | 'end'
export const honest: Manner = (right) => right

/** A provider that has these contents, and answers in its manner. */
export class MemorySmallPeer implements FolderProvider, SmallSource {
  readonly peer: PeerId
  readonly rest: string
  readonly grpc_port = 1
  readonly #contents: ReadonlyMap<ContentId, Buffer>
  readonly #manner: Manner
  /** contents that it was asked for */
  asked = 0
  /** conversations that it refuses, the first ones */
  busy = 0
  open_ = 0
  /** waited for before each content, which then comes alone; undefined: all that was asked for comes at once */
  pause: ((signal: AbortSignal) => Promise<void>) | undefined

  constructor(peer: string, contents: Iterable<Buffer>, manner: Manner = honest) {
    this.peer = peer as PeerId
    this.rest = `http://${peer}`
    this.#contents = new Map(Array.from(contents, (data) => [contentIdOf(data), data]))
    this.#manner = manner
  }

  open(signal: AbortSignal): SmallStream {
    this.open_++
    const requests: ContentId[][] = []
    let wake = () => {}
    let closed = false
    const over = new AbortController()
    const { pause } = this
    const refuses = this.busy-- > 0
    const close = () => {
      if (!closed) this.open_--
      closed = true
      over.abort()
      wake()
    }
    signal.addEventListener('abort', close)
    const answer = this.#answer.bind(this)
    return {
      request: (ids) => {
        requests.push([...ids])
        wake()
      },
      async *answers() {
        if (refuses) throw new NetworkError('limited', 'too many such calls at this peer')
        while (!closed) {
          const ids = requests.shift()
          const contents = ids && answer(ids)
          if (contents === 'end') return
          if (contents && contents !== 'never' && pause)
            for (const content of contents) {
              await pause(over.signal)
              if (closed) break
              yield [content]
            }
          else if (contents && contents !== 'never') yield contents
          else if (contents === 'never' || !ids)
            await new Promise<void>((resolve) => {
              wake = resolve
            })
        }
        throw new NetworkError('cancelled', 'the call was cancelled')
      },
      close,
    }
  }

  #answer(ids: readonly ContentId[]): ReturnType<Manner> {
    const right = ids.map((id): SmallContent => {
      const data = this.#contents.get(id)
      return data ? { id, data } : { id, fault: new NetworkError('not_found', 'it is not shared here') }
    })
    this.asked += ids.length
    return this.#manner(right, this.asked)
  }
}

/** Tells of files in some pages. */
export function memoryLister(rows: readonly FolderRow[], asked = 'http://lister'): FolderLister {
  return {
    asked,
    async *list() {
      const page = Math.ceil(rows.length / 3)
      for (let at = 0; at < rows.length; at += page) yield rows.slice(at, at + page)
    },
  }
}

export function deadLister(asked = 'http://dead'): FolderLister {
  return {
    asked,
    // biome-ignore lint/correctness/useYield: it fails before it lists anything
    async *list() {
      throw new NetworkError('unavailable', `${asked} does not answer`)
    },
  }
}

/** What each of these providers offers under a name. */
export function row(name: string, data: Buffer, ...providers: FolderProvider[]): FolderRow {
  const id = contentIdOf(data)
  return {
    name,
    offers: providers.map(({ peer, rest, grpc_port }) => ({ peer, rest, grpc_port, id, size: data.length })),
  }
}
