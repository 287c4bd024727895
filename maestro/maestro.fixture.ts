import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'vitest'
import { ManualClock } from '../common/clock.ts'
import { silentLog } from '../common/log.ts'
import { MaestroConfig } from './config.ts'
import { Maestro } from './maestro.ts'

type Json = Record<string, unknown>

/** A Maestro for one test: a free loopback port, a clock that stands, a folder that goes with the test. */
export interface TestMaestro {
  readonly clock: ManualClock
  readonly url: string
  readonly port: number
  readonly maestro: Maestro
  /** Calls a route with no socket; a body is sent as JSON. */
  call(method: string, path: string, body?: unknown): Promise<{ status: number; body: Json & { error?: Json } }>
  register(id: string, files: unknown[], over?: Json): Promise<{ status: number; body: Json & { error?: Json } }>
  /** Stops it and, `awayMs` later, starts another one on the same database. */
  restart(awayMs?: number): Promise<void>
}

export async function startMaestro(
  t: Pick<TestContext, 'onTestFinished'>,
  over: Partial<MaestroConfig> = {},
): Promise<TestMaestro> {
  const folder = mkdtempSync(join(tmpdir(), 'maestro-'))
  const clock = new ManualClock()
  const config = MaestroConfig.parse({ ip: '127.0.0.1', port: 0, database: join(folder, 'directory.db'), ...over })
  const start = async () => {
    const maestro = new Maestro(config, { log: silentLog, clock })
    await maestro.start()
    return maestro
  }
  let maestro = await start()
  t.onTestFinished(async () => {
    await maestro.stop()
    rmSync(folder, { recursive: true })
  })
  const call: TestMaestro['call'] = async (method, path, body) => {
    const response = await maestro.app.request(path, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    })
    return { status: response.status, body: (await response.json()) as Json }
  }
  return {
    clock,
    call,
    get maestro() {
      return maestro
    },
    get url() {
      return maestro.url
    },
    get port() {
      return maestro.port
    },
    register: (id, files, more) =>
      call('POST', '/register', { id, peer: `http://10.0.0.1:8000`, grpc_port: 50051, revision: 1, files, ...more }),
    restart: async (awayMs = 0) => {
      await maestro.stop()
      clock.advance(awayMs)
      maestro = await start()
    },
  }
}
