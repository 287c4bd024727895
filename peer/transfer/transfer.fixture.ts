import {
  closeSync,
  copyFileSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { contentIdOf, type Manifest, manifestOf, pieceCount, pieceLength } from '../../common/merkle.ts'
import type { ContentReader, Contents, Landing, PartialFile } from './contents.ts'
import { Intake, type ProviderSays } from './intake.ts'
import { journaledManifest } from './journal.ts'
import { piecesOf, type Runs } from './runs.ts'
import type { Frame, ManifestClaim, NamedSource, PieceSink, PieceStream } from './source.ts'

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

  journalPath(id: ContentId): string {
    return this.path(`.${id}.journal`)
  }

  existing(name: FileName): ContentId | undefined {
    return existsSync(this.path(name)) ? contentIdOf(readFileSync(this.path(name))) : undefined
  }

  unfinished(): ContentId[] {
    const ids = readdirSync(this.folder).flatMap((name) => /^\.([0-9a-f]{64})\.journal$/.exec(name)?.[1] ?? [])
    return (ids as ContentId[]).filter((id) => existsSync(this.partialPath(id)))
  }

  unfinishedManifest(id: ContentId): Manifest | undefined {
    if (!this.unfinished().includes(id)) return undefined
    const fd = openSync(this.journalPath(id), 'r')
    try {
      return journaledManifest(fd, id)
    } finally {
      closeSync(fd)
    }
  }

  async openPartial({ id, size }: Manifest): Promise<PartialFile> {
    if (this.open.has(id)) throw new NetworkError('conflict', 'another transfer has this content open')
    if (size > this.room) throw new NetworkError('unavailable', 'the disk has no room for this')
    const [path, journalPath] = [this.partialPath(id), this.journalPath(id)]
    const openHidden = (hidden: string) => openSync(hidden, existsSync(hidden) ? 'r+' : 'w+')
    const resumed = existsSync(path)
    const fd = openHidden(path)
    let journal: number | undefined
    ftruncateSync(fd, size)
    this.open.add(id)
    const close = () => {
      if (!this.open.delete(id)) return
      closeSync(fd)
      if (journal !== undefined) closeSync(journal)
    }
    const checkName = (name: FileName) => {
      if (!existsSync(path))
        throw new NetworkError('conflict', 'the partial file was removed: start the download again')
      const existing = this.existing(name)
      if (existing !== undefined && existing !== id) throw new NetworkError('conflict', `"${name}" has other content`)
    }
    return {
      fd,
      resumed,
      openJournal: () => {
        journal ??= openHidden(journalPath)
        return journal
      },
      look: () => {
        if (!existsSync(path))
          throw new NetworkError('conflict', 'the partial file was removed: start the download again')
        const stats = fstatSync(fd)
        return { size: stats.size, held: stats.blocks * 512 }
      },
      openForReading: () => openSync(path, 'r'),
      publish: async (name) => {
        checkName(name)
        renameSync(path, this.path(name))
        rmSync(journalPath, { force: true })
        close()
      },
      copyTo: async (name) => {
        checkName(name)
        copyFileSync(path, this.path(name))
      },
      close: async () => close(),
      discard: async () => {
        close()
        rmSync(path, { force: true })
        rmSync(journalPath, { force: true })
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
  readonly address: string
  /** the pieces that were begun, in order */
  readonly requested: number[] = []
  /** what it says it has (default: everything) */
  tells: Runs | undefined
  /** whether a simulation is what it does when asked for one */
  simulates = true
  claim: ManifestClaim
  #id: ContentId
  #behaviour: Behaviour

  constructor(peer: string, bytes: Buffer, behaviour: Behaviour = honest) {
    const manifest = manifestOf(bytes)
    this.peer = peer as PeerId
    this.address = `${peer}:50051`
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

  open(sink: PieceSink, signal: AbortSignal): PieceStream {
    const wanted = new Set<number>()
    let credit = 0
    let closed = false
    let wake = () => {}
    const { requested, tells } = this
    async function* requests(): AsyncGenerator<number> {
      while (!closed) {
        const [next] = wanted
        if (next !== undefined && credit > 0) {
          wanted.delete(next)
          credit--
          requested.push(next)
          yield next
        } else
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
    const behaviour = sink.dummy && this.simulates ? simulating : this.#behaviour
    const frames = behaviour(requests(), sink.manifest, this.bytes)
    const count = pieceCount(sink.manifest.size, sink.manifest.pieceSize)
    async function* messages(): AsyncGenerator<ProviderSays> {
      const pieces = tells ?? (count > 0 ? [0, count] : [])
      if (pieces.length > 0) yield { kind: 'have', pieces }
      for await (const frame of frames) yield { kind: 'frame', frame }
    }
    return new Intake(sink, {
      send: ({ add = [], remove = [], credit: more = 0 }) => {
        for (const piece of piecesOf(remove)) wanted.delete(piece)
        for (const piece of piecesOf(add)) wanted.add(piece)
        credit += more
        wake()
      },
      messages: messages(),
      close,
    })
  }
}

export const simulating: Behaviour = async function* (requests, manifest) {
  for await (const index of requests)
    yield { piece: index, offset: 0, data: new Uint8Array(0), simulated: pieceLength(manifest, index) }
}
