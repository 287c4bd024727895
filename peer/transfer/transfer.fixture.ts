import { closeSync, existsSync, ftruncateSync, openSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { contentIdOf, type Manifest, manifestOf, pieceLength } from '../../common/merkle.ts'
import type { ContentReader, Contents, Landing, PartialFile } from './contents.ts'
import type { Frame, ManifestClaim, NamedSource, PieceStream } from './source.ts'

/** Small stand-ins for the tests of this folder and of `rpc/`: contents in memory, a landing in a temporary folder. */

/** Bytes that differ from piece to piece. */
export function patternOf(size: number, seed = 7): Buffer {
  const data = Buffer.allocUnsafe(size)
  for (let i = 0; i < size; i++) data[i] = (i * 31 + seed + (i >>> 11)) % 251
  return data
}

export class MemoryContents implements Contents {
  #contents = new Map<ContentId, { manifest: Manifest; name: FileName; bytes: Buffer; changed: boolean }>()
  /** readers that are open */
  opened = 0
  /** all bytes that were read */
  readBytes = 0
  /** reads under way now, and the most there ever were */
  reading = 0
  mostReading = 0

  add(name: string, bytes: Buffer): Manifest {
    const manifest = manifestOf(bytes)
    this.#contents.set(manifest.id, { manifest, name: name as FileName, bytes, changed: false })
    return manifest
  }

  /** From now on the file on disk is another. */
  change(id: ContentId): void {
    this.#contents.get(id)!.changed = true
  }

  manifest(id: ContentId): Manifest | undefined {
    return this.#contents.get(id)?.manifest
  }

  get(name: FileName): Manifest | undefined {
    return [...this.#contents.values()].find((content) => content.name === name)?.manifest
  }

  open(id: ContentId): ContentReader {
    const content = this.#contents.get(id)
    if (!content) throw new NetworkError('not_found', 'no such content')
    this.opened++
    return {
      size: content.bytes.length,
      read: async (into, position) => {
        this.mostReading = Math.max(this.mostReading, ++this.reading)
        await new Promise((resolve) => setImmediate(resolve))
        this.reading--
        if (content.changed) throw new NetworkError('conflict', 'the file changed while it was served')
        this.readBytes += into.length
        content.bytes.copy(into, 0, position, position + into.length)
      },
      close: () => {
        this.opened--
      },
    }
  }
}

export class TemporaryLanding implements Landing {
  readonly folder: string
  /** bytes that the disk has room for */
  room = Number.POSITIVE_INFINITY
  readonly open = new Set<ContentId>()

  static async create(): Promise<TemporaryLanding> {
    return new TemporaryLanding(await mkdtemp(join(tmpdir(), 'p2p-transfer-')))
  }

  private constructor(folder: string) {
    this.folder = folder
  }

  remove(): Promise<void> {
    return rm(this.folder, { recursive: true, force: true })
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  partialPath(id: ContentId): string {
    return this.path(`.${id}.part`)
  }

  existing(name: FileName): ContentId | undefined {
    return existsSync(this.path(name)) ? contentIdOf(readFileSync(this.path(name))) : undefined
  }

  async openPartial({ id, size }: Manifest): Promise<PartialFile> {
    if (this.open.has(id)) throw new NetworkError('conflict', 'another transfer has this content open')
    if (size > this.room) throw new NetworkError('unavailable', 'the disk has no room for this')
    const path = this.partialPath(id)
    const resumed = existsSync(path)
    const fd = openSync(path, resumed ? 'r+' : 'w+')
    ftruncateSync(fd, size)
    this.open.add(id)
    const close = () => {
      if (this.open.delete(id)) closeSync(fd)
    }
    return {
      fd,
      resumed,
      publish: async (name) => {
        const existing = this.existing(name)
        if (existing !== undefined && existing !== id) throw new NetworkError('conflict', `"${name}" has other content`)
        renameSync(path, this.path(name))
        close()
      },
      close: async () => close(),
      discard: async () => {
        close()
        rmSync(path, { force: true })
      },
    }
  }
}

/** What a provider in memory does with the requests it gets: yields frames, throws, or never returns. */
export type Behaviour = (requests: AsyncIterable<number>, manifest: Manifest, bytes: Buffer) => AsyncIterable<Frame>

/** Serves what is asked for, in two frames a piece where it is long enough. */
export const honest: Behaviour = async function* (requests, manifest, bytes) {
  for await (const index of requests) yield* framesOfPiece(manifest, bytes, index)
}

export function* framesOfPiece(manifest: Manifest, bytes: Buffer, index: number): Generator<Frame> {
  const begin = index * manifest.pieceSize
  const length = pieceLength(manifest, index)
  for (let offset = 0; offset < length; offset += manifest.pieceSize / 2) {
    const end = Math.min(offset + manifest.pieceSize / 2, length)
    yield { piece: index, offset, data: new Uint8Array(bytes.subarray(begin + offset, begin + end)), simulated: 0 }
  }
}

/** A provider in memory; dummy conversations it simulates. */
export class MemorySource implements NamedSource {
  readonly peer: PeerId
  readonly bytes: Buffer
  readonly requested: number[] = []
  claim: ManifestClaim
  #id: ContentId
  #behaviour: Behaviour

  constructor(peer: string, bytes: Buffer, behaviour: Behaviour = honest) {
    const manifest = manifestOf(bytes)
    this.peer = peer as PeerId
    this.bytes = bytes
    this.claim = manifest
    this.#id = manifest.id
    this.#behaviour = behaviour
  }

  async manifest(id: ContentId): Promise<ManifestClaim> {
    if (id !== this.#id) throw new NetworkError('not_found', `${this.peer} does not share this content`)
    return this.claim
  }

  async resolve(): Promise<{ id: ContentId; size: number }> {
    return { id: this.#id, size: this.bytes.length }
  }

  open(manifest: Manifest, dummy: boolean, signal: AbortSignal): PieceStream {
    const queue: number[] = []
    let closed = false
    let wake = () => {}
    const requested = this.requested
    async function* requests(): AsyncGenerator<number> {
      while (!closed) {
        const next = queue.shift()
        if (next !== undefined) yield next
        else
          await new Promise<void>((resolve) => {
            wake = resolve
          })
      }
    }
    const close = () => {
      closed = true
      wake()
    }
    signal.addEventListener('abort', close, { once: true })
    const behaviour = dummy ? simulating : this.#behaviour
    const frames = behaviour(requests(), manifest, this.bytes)
    return {
      request: (first, count) => {
        for (let index = first; index < first + count; index++) {
          queue.push(index)
          requested.push(index)
        }
        wake()
      },
      frames: () => frames,
      close,
    }
  }
}

export const simulating: Behaviour = async function* (requests, manifest) {
  for await (const index of requests)
    yield { piece: index, offset: 0, data: new Uint8Array(0), simulated: pieceLength(manifest, index) }
}
