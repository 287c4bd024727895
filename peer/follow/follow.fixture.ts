import { ManualClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { NetworkEvent } from '../../common/events/event.ts'
import type { FollowBody } from '../../common/events/rest.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import type { TransferBody } from '../../common/schemas.ts'
import type { CatalogEvent } from '../catalog/change-feed.ts'
import type { FolderLister, FolderRow } from '../transfer/folder/listing.ts'
import type { DownloadRequest } from '../transfer/manager.ts'
import { FollowStore } from './follow-store.ts'
import { Follows } from './follows.ts'

/** For tests of follows: a directory that is a list, a shared folder that is a map, transfers that a test drives. */

export const id = (digit: string) => digit.repeat(64) as ContentId
export const name = (text: string) => text as FileName
export const A = id('a')
export const B = id('b')

export class FakeCatalog {
  readonly files = new Map<string, ContentId>()
  /** on the disk, and not hashed yet */
  readonly unhashed = new Set<string>()
  #listeners = new Set<(event: CatalogEvent) => void>()

  get(name: FileName) {
    const content = this.files.get(name)
    return content && ({ id: content } as never)
  }

  existing(name: FileName): ContentId | 'unknown' | undefined {
    return this.files.get(name) ?? (this.unhashed.has(name) ? 'unknown' : undefined)
  }

  onChange(listener: (event: CatalogEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  add(file: string, content: ContentId, size = 1): void {
    this.files.set(file, content)
    this.#tell({ added: [{ name: file as FileName, id: content, size }], removed: [] })
  }

  remove(file: string): void {
    this.files.delete(file)
    this.#tell({ added: [], removed: [file as FileName] })
  }

  #tell(change: Pick<CatalogEvent, 'added' | 'removed'>): void {
    for (const listener of this.#listeners) listener({ from: 1, to: 2, before: new Map(), ...change })
  }
}

export class FakeTransfer {
  readonly request: DownloadRequest
  body: TransferBody
  #wake = () => {}
  #changed = new Promise<void>((resolve) => {
    this.#wake = resolve
  })

  constructor(request: DownloadRequest, body: TransferBody) {
    this.request = request
    this.body = body
  }

  get name(): string {
    return this.request.as!
  }

  set(change: Partial<TransferBody>): void {
    this.body = { ...this.body, ...change }
    this.#wake()
    this.#changed = new Promise((resolve) => {
      this.#wake = resolve
    })
  }

  fail(code: string, message = `it failed: ${code}`): void {
    this.set({ state: 'failed', error: { code, message } })
  }

  get ended(): boolean {
    return ['done', 'failed', 'cancelled', 'simulated'].includes(this.body.state)
  }

  async *watch(signal: AbortSignal): AsyncGenerator<TransferBody> {
    const aborted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
    while (!signal.aborted) {
      const changed = this.#changed
      yield this.body
      if (this.ended) return
      await Promise.race([changed, aborted])
    }
  }
}

export class FakeTransfers {
  readonly all: FakeTransfer[] = []
  /** what `start` throws */
  refusal: NetworkError | undefined

  start(request: DownloadRequest): TransferBody {
    if (this.refusal) throw this.refusal
    const transfer = String(this.all.length + 1)
    const body = { transfer, state: 'locating', size: null, pieces: null, error: null } as TransferBody
    this.all.push(new FakeTransfer(request, body))
    return body
  }

  watch(number: string, signal: AbortSignal): AsyncIterable<TransferBody> {
    return this.all[Number(number) - 1]!.watch(signal)
  }

  cancel(number: string): TransferBody {
    const transfer = this.all[Number(number) - 1]!
    if (transfer.ended) throw new NetworkError('conflict', 'it has ended')
    transfer.set({ state: 'cancelled' })
    return transfer.body
  }

  /** Names of those under way. */
  get running(): string[] {
    return this.all.filter(({ ended }) => !ended).map(({ name }) => name)
  }

  /** The last one of that name. */
  of(file: string): FakeTransfer {
    const found = this.all.findLast((transfer) => transfer.name === file)
    if (!found) throw new Error(`${file} is not fetched`)
    return found
  }
}

export class FollowFixture {
  readonly clock = new ManualClock()
  readonly catalog = new FakeCatalog()
  transfers = new FakeTransfers()
  readonly store: FollowStore
  /** what is offered, by whom */
  offers: FolderRow[] = []
  /** folders that were listed */
  readonly listed: (string | undefined)[] = []
  maestroFault: NetworkError | undefined
  friendOffers: FolderRow[] | undefined
  /** that nobody is known to have */
  readonly unknown = new Set<ContentId>()
  /** searches of the whole network that found nobody */
  inVain = 0
  asked = 0
  follows: Follows

  constructor(path = ':memory:') {
    this.store = FollowStore.open(path, silentLog)
    this.follows = this.#make()
  }

  #make(): Follows {
    const { clock, catalog, transfers, store } = this
    const scout = {
      isWorthwhile: async (content: ContentId) => {
        this.asked++
        return !this.unknown.has(content)
      },
      foundNobody: () => {
        this.inVain++
      },
    }
    return new Follows(
      { clock, catalog, transfers, scout, store, log: silentLog, listers: () => this.#listers() },
      { self: 'P2' as PeerId },
    )
  }

  /** As after a kill: what was in memory is gone. */
  async restart(): Promise<void> {
    await this.follows.stop()
    this.transfers = new FakeTransfers()
    this.follows = this.#make()
    await this.follows.start()
  }

  async close(): Promise<void> {
    await this.follows.stop()
    this.store.close()
  }

  offer(file: string, content: ContentId = A, size = 1, peer = 'P1'): void {
    this.offers.push({ name: file, offers: [offerOf(peer, content, size)] })
  }

  news(file: string, content: ContentId = A, size = 1, origin = 'P1'): void {
    this.follows.hear([event(file, content, size, origin)])
  }

  /** Of the only, or the first, rule. */
  get state(): FollowBody {
    return this.follows.list()[0]!
  }

  get leftOut(): Record<string, string> {
    return Object.fromEntries(this.state.left_out.map(({ name, why }) => [name, why]))
  }

  /** The transfer knows how large it is. */
  async prove(file: string, size: number): Promise<void> {
    while (!this.transfers.running.includes(file)) await new Promise(setImmediate)
    this.transfers.of(file).set({ state: 'running', size, pieces: { verified: 0, total: 1 } })
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
  }

  /** The transfer brings its file. */
  land(file: string, size = 1): void {
    const transfer = this.transfers.of(file)
    this.catalog.add(file, transfer.request.id!, size)
    transfer.set({ state: 'done' })
  }

  #listers() {
    const from = (asked: string, rows: () => FolderRow[]): FolderLister => ({
      asked,
      list: (folder) => {
        this.listed.push(folder)
        return pageOf(rows().filter((row) => folder === undefined || row.name.startsWith(`${folder}/`)))
      },
    })
    const maestro = from('http://maestro:9000', () => {
      if (this.maestroFault) throw this.maestroFault
      return this.offers
    })
    const { friendOffers } = this
    return { maestro, friends: friendOffers ? [from('http://friend:8000', () => friendOffers)] : [] }
  }
}

async function* pageOf(rows: readonly FolderRow[]) {
  yield rows
}

export function offerOf(peer: string, content: ContentId | null, size: number | null) {
  return { peer: peer as PeerId, rest: `http://${peer}:8000`, grpc_port: 50051, id: content, size }
}

let seq = 0
export function event(file: string, content: ContentId = A, size = 1, origin = 'P1'): NetworkEvent {
  return {
    v: 1,
    id: `test.${++seq}`,
    origin,
    seq,
    time: '2026-03-01T12:00:00.000Z',
    type: 'file.added',
    data: { name: file as FileName, id: content, size, revision: { from: 1, to: 2 } },
  }
}
