import type { handleUnaryCall, sendUnaryData } from '@grpc/grpc-js'
import prettyBytes from 'pretty-bytes'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { parseFileName } from '../../common/ids.ts'
import { manifestOf, pieceCount, pieceLength } from '../../common/merkle.ts'
import { MAX_UNARY_FILE, wordsFor } from '../../common/rpc.ts'
import type { Hasher } from '../hashing/hasher.ts'
import { type Contents, type Landing, sharedManifest } from '../transfer/contents.ts'
import { PieceStore } from '../transfer/piece-store.ts'
import type { Receiver } from '../transfer/receiver.ts'

export interface FileServiceDeps {
  contents: Contents
  landing: Landing
  hasher: Hasher
  receiver: Receiver
}

export interface FileServiceOptions {
  /** says what it would do, and moves no byte */
  dummy: boolean
}

type Download = handleUnaryCall<{ filename: string }, { ok: boolean; content: Buffer; message: string }>
type Upload = handleUnaryCall<{ filename: string; content: Buffer }, { ok: boolean; message: string }>

const NOTHING = Buffer.alloc(0)

/** Whole small files in one message each way. What goes wrong is `ok=false` with a message, never a status. */
export class FileServiceHandlers {
  #deps: FileServiceDeps
  #dummy: boolean

  constructor(deps: FileServiceDeps, options: FileServiceOptions) {
    this.#deps = deps
    this.#dummy = options.dummy
  }

  readonly download: Download = (call, callback) =>
    answer(
      callback,
      () => this.#download(call.request.filename),
      (message) => ({ ok: false, content: NOTHING, message }),
    )

  readonly upload: Upload = (call, callback) =>
    answer(
      callback,
      async () => ({ ok: true, message: await this.#upload(call.request.filename, call.request.content) }),
      (message) => ({ ok: false, message }),
    )

  async #download(filename: string): Promise<{ ok: boolean; content: Buffer; message: string }> {
    const name = parseFileName(filename)
    const { contents } = this.#deps
    const { id, size } = sharedManifest(contents, { name })
    if (size > MAX_UNARY_FILE)
      throw new NetworkError(
        'too_large',
        `"${name}" has ${prettyBytes(size)}, more than one message carries: use the Transfer service, or GET /files/{name}`,
      )
    const described = `${size} bytes of ${name} (content id ${id})`
    if (this.#dummy) return { ok: true, content: NOTHING, message: `dummy: would send ${described}` }
    const reader = contents.open(id)
    try {
      const content = Buffer.allocUnsafe(size)
      if (size > 0) await reader.read(content, 0)
      return { ok: true, content, message: described }
    } finally {
      reader.close()
    }
  }

  /** Hash first, so that the bytes land through the same verified door as every other content. */
  async #upload(filename: string, content: Buffer): Promise<string> {
    if (content.length > MAX_UNARY_FILE)
      throw new NetworkError(
        'too_large',
        `${prettyBytes(content.length)} are more than one message carries: use the Transfer service, or PUT /files/{name}`,
      )
    const manifest = manifestOf(content)
    const { name, here } = this.#deps.receiver.admit(filename, manifest.id)
    const described = `${manifest.size} bytes as ${name} (content id ${manifest.id})`
    if (here) return `already here: ${described}`
    if (this.#dummy) return `dummy: would store ${described}`
    const store = await PieceStore.open(this.#deps, manifest, new AbortController().signal)
    try {
      for (let index = 0; index < pieceCount(manifest.size, manifest.pieceSize); index++) {
        const begin = index * manifest.pieceSize
        // The memory is given away, and the message is one: each piece is a copy.
        const piece = new Uint8Array(content.subarray(begin, begin + pieceLength(manifest, index)))
        if (!(await store.commit(index, [piece]))) throw new NetworkError('internal', 'the bytes changed meanwhile')
        store.verified(index)
      }
      await store.publish([name])
    } finally {
      await store.close()
    }
    return `stored ${described}`
  }
}

function answer<T>(callback: sendUnaryData<T>, work: () => Promise<T>, refuse: (message: string) => T): void {
  work().then(
    (done) => callback(null, done),
    (error) => callback(null, refuse(wordsFor(asNetworkError(error)))),
  )
}
