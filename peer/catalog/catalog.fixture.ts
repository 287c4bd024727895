import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import pino from 'pino'
import { afterAll, onTestFinished } from 'vitest'
import { systemClock } from '../../common/clock.ts'
import { type FileName, parseFileName } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import { contentIdOf } from '../../common/merkle.ts'
import type { Hasher } from '../hashing/hasher.ts'
import { WorkerHasher } from '../hashing/worker-hasher.ts'
import { Catalog, type CatalogDeps, type CatalogOptions } from './catalog.ts'
import { CatalogStore } from './catalog-store.ts'
import { SharedFolder } from './shared-folder.ts'

/** What the tests of this folder have in common. */

let hasher: WorkerHasher | undefined
/** The real hasher, one for a test file. */
export function sharedHasher(): Hasher {
  if (!hasher) throw new Error('call useSharedHasher at the top of the test file')
  return hasher
}
export function useSharedHasher(): void {
  hasher = new WorkerHasher()
  afterAll(() => hasher?.close())
}

export function temporaryFolder(): string {
  const path = mkdtempSync(join(tmpdir(), 'catalog-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** A log that keeps its lines. */
export function recordingLog(): { log: Logger; lines: string[] } {
  const lines: string[] = []
  return { log: pino({ level: 'info' }, { write: (line: string) => void lines.push(line) }), lines }
}

export const fileName = (text: string): FileName => parseFileName(text)

export class CatalogFixture {
  readonly base = temporaryFolder()
  readonly root: string
  readonly state: string
  readonly lines: string[]
  catalog!: Catalog
  store!: CatalogStore
  #log: Logger
  #deps: Partial<CatalogDeps>
  #options: Partial<CatalogOptions>

  constructor(deps: Partial<CatalogDeps> = {}, options: Partial<CatalogOptions> = {}, root?: string) {
    this.root = root ?? join(this.base, 'shared')
    this.state = join(this.base, 'state')
    mkdirSync(this.root, { recursive: true })
    const { log, lines } = recordingLog()
    this.#log = log
    this.lines = lines
    this.#deps = deps
    this.#options = options
    onTestFinished(() => this.stop())
  }

  async start(): Promise<Catalog> {
    this.store = CatalogStore.open(this.state, this.#log)
    this.catalog = new Catalog(
      {
        folder: SharedFolder.open(this.root),
        store: this.store,
        hasher: sharedHasher(),
        clock: systemClock,
        log: this.#log,
        ...this.#deps,
      },
      { settleMs: 20, rescanS: 300, reserveBytes: 0, ...this.#options },
    )
    await this.catalog.start()
    await this.catalog.ready()
    return this.catalog
  }

  async stop(): Promise<void> {
    await this.catalog?.stop()
    this.store?.close()
  }

  async restart(): Promise<Catalog> {
    await this.stop()
    return this.start()
  }

  path(name: string): string {
    return join(this.root, name)
  }

  write(name: string, data: string | Uint8Array = `content of ${name}`): void {
    mkdirSync(dirname(this.path(name)), { recursive: true })
    writeFileSync(this.path(name), data)
  }

  /** Names and content ids as the catalog has them. */
  shared(): Record<string, string> {
    return Object.fromEntries(this.catalog.entries().map(({ name, id }) => [name, id as string]))
  }
}

/** What `shared` gives for files of these contents. */
export function idsOf(contents: Record<string, string | Uint8Array>): Record<string, string> {
  return Object.fromEntries(Object.entries(contents).map(([name, data]) => [name, contentIdOf(Buffer.from(data))]))
}
