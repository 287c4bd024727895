import type { FileName, PeerId } from '../../common/ids.ts'
import type { MaestroClient } from '../../common/maestro-client.ts'
import type { LocateQuery, LocateStrategy, Provider, Trace } from './strategy.ts'

/** Names taken from one search. */
const MAX_NAMES = 100

type Directory = Pick<MaestroClient, 'url' | 'locate' | 'search' | 'info'>

/** Asks the directory. */
export class MaestroStrategy implements LocateStrategy {
  readonly name = 'maestro'
  readonly #maestro: Directory
  readonly #self: PeerId

  constructor(maestro: Directory, self: PeerId) {
    this.#maestro = maestro
    this.#self = self
  }

  get asked(): string {
    return this.#maestro.url
  }

  async probe(signal: AbortSignal): Promise<void> {
    await this.#maestro.info({ signal })
  }

  async *locate(query: LocateQuery, trace: Trace, signal: AbortSignal): AsyncIterable<Provider> {
    for await (const provider of this.#ask(query, trace, signal)) if (provider.peer !== this.#self) yield provider
  }

  async *#ask(query: LocateQuery, trace: Trace, signal: AbortSignal): AsyncIterable<Provider> {
    if (query.kind === 'text') {
      yield* this.#search(query.text, trace, signal)
      return
    }
    trace.messages++
    const { peers } = await this.#maestro.locate(query.kind === 'name' ? { file: query.name } : { id: query.id }, {
      signal,
    })
    for (const peer of peers) {
      const file: FileName | undefined = query.kind === 'name' ? query.name : peer.file
      if (file !== undefined) yield { ...peer, file }
    }
  }

  /** A page takes the Maestro a bounded time and may come short: the next one goes on from there. */
  async *#search(text: string, trace: Trace, signal: AbortSignal): AsyncIterable<Provider> {
    let after: string | null | undefined
    for (let found = 0; found < MAX_NAMES && after !== null; ) {
      const page = { limit: MAX_NAMES - found, ...(after === undefined ? {} : { after }) }
      trace.messages++
      const { results, next } = await this.#maestro.search(text, page, { signal })
      for (const { file, peers } of results) for (const peer of peers) yield { ...peer, file }
      found += results.length
      after = next
    }
  }
}
