import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { LocateQuery, LocateStrategy, Provider } from './strategy.ts'

export interface LocalFile {
  readonly name: FileName
  /** bytes */
  readonly size: number
  readonly id: ContentId
  /** nanoseconds since the epoch */
  readonly mtimeNs: bigint
}

/** The catalog, as lookups see it. */
export interface LocalFiles {
  get(name: FileName): LocalFile | undefined
  byId(id: ContentId): readonly LocalFile[]
  search(text: string, limit: number): readonly LocalFile[]
}

/** This peer, as others reach it. */
export interface Self {
  readonly id: PeerId
  readonly rest: string
  readonly grpcPort: number
}

const MAX_MATCHES = 100

/** Files that match in one catalog, at most 100 of them. */
export function matches(files: LocalFiles, query: LocateQuery): readonly LocalFile[] {
  switch (query.kind) {
    case 'name': {
      const file = files.get(query.name)
      return file ? [file] : []
    }
    case 'id':
      return files.byId(query.id).slice(0, MAX_MATCHES)
    case 'text':
      return files.search(query.text, MAX_MATCHES)
  }
}

/** Looks into this peer's own catalog. */
export class LocalStrategy implements LocateStrategy {
  readonly name = 'local'
  readonly asked = 'this peer'
  readonly #files: LocalFiles
  readonly #self: () => Self

  constructor(files: LocalFiles, self: () => Self) {
    this.#files = files
    this.#self = self
  }

  async *locate(query: LocateQuery): AsyncIterable<Provider> {
    const { id: peer, rest, grpcPort } = this.#self()
    for (const { name, id, size } of matches(this.#files, query))
      yield { peer, rest, grpc_port: grpcPort, file: name, id, size }
  }
}
