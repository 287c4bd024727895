import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type OutgoingHttpHeaders, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { systemClock } from '../common/clock.ts'
import type { Carrier } from '../common/events/bus.contract.ts'
import type { BusDeps } from '../common/events/bus.ts'
import type { Mail } from '../common/events/mail.ts'
import { type PeerId, parsePeerId } from '../common/ids.ts'
import { silentLog } from '../common/log.ts'
import { MaestroClient } from '../common/maestro-client.ts'
import { MaestroConfig } from '../maestro/config.ts'
import { Maestro } from '../maestro/maestro.ts'
import { SqliteMailboxes } from '../maestro/mailboxes/sqlite.ts'
import { MaestroBus } from '../peer/events/maestro-bus.ts'

const HOUR_MS = 3_600_000

/** A Maestro that stops, and starts again on its port with its databases. */
export class RestartingMaestro {
  readonly #folder = mkdtempSync(join(tmpdir(), 'events-bus-'))
  #running: Maestro | undefined
  #port = 0

  get port(): number {
    return this.#port
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  async start(): Promise<void> {
    const config = MaestroConfig.parse({
      ip: '127.0.0.1',
      port: this.#port,
      database: join(this.#folder, 'directory.db'),
      lease_ms: HOUR_MS,
    })
    const maestro = new Maestro(config, { log: silentLog })
    await maestro.start()
    this.#running = maestro
    this.#port = maestro.port
  }

  async stop(): Promise<void> {
    const running = this.#running
    this.#running = undefined
    await running?.stop()
  }

  /** Opens leases that last longer than a test. */
  async register(...ids: string[]): Promise<void> {
    const client = new MaestroClient(this.url)
    for (const id of ids)
      await client.register({ id: parsePeerId(id), rest: 'http://127.0.0.1:1', grpcPort: 1, revision: 1, files: [] })
    await client.close()
  }

  /** Puts messages where it keeps them, as if they had been left one after the other. It is stopped meanwhile. */
  async fill(mail: readonly Mail[]): Promise<void> {
    await this.stop()
    const store = SqliteMailboxes.open(join(this.#folder, 'directory.mail.db'), silentLog)
    const bounds = { perMailbox: mail.length, inAll: mail.length }
    await Promise.all(mail.map((message) => store.put(message, Date.now(), bounds)))
    await store.close()
    await this.start()
  }

  async close(): Promise<void> {
    await this.stop()
    rmSync(this.#folder, { recursive: true })
  }
}

/** Between one peer and the Maestro: hands on all requests, says more than the Maestro does, or hangs up. */
class Between {
  readonly #server = createServer((incoming, outgoing) => this.#handOn(incoming, outgoing))
  readonly #target: RestartingMaestro
  readonly #streams = new Set<ServerResponse>()

  constructor(target: RestartingMaestro) {
    this.#target = target
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async open(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
  }

  /** Text into each open stream of events. */
  say(text: string): void {
    for (const stream of this.#streams) stream.write(text)
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  #handOn(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { method, url, headers } = incoming
    const further = request({ host: '127.0.0.1', port: this.#target.port, method, path: url, headers, agent: false })
    const cut = () => outgoing.destroy()
    further.on('error', cut)
    further.on('response', (response) => {
      outgoing.writeHead(response.statusCode!, response.headers as OutgoingHttpHeaders)
      outgoing.flushHeaders()
      if (response.headers['content-type'] === 'text/event-stream') this.#streams.add(outgoing)
      response.on('error', cut)
      response.pipe(outgoing)
    })
    outgoing.on('close', () => {
      this.#streams.delete(outgoing)
      further.destroy()
    })
    incoming.pipe(further)
  }
}

/** The Maestro as what carries events and mail of P1, P2 and P3, which have their leases. */
export async function openMaestroCarrier(): Promise<Carrier & Pick<RestartingMaestro, 'fill'>> {
  const maestro = new RestartingMaestro()
  await maestro.start()
  await maestro.register('P1', 'P2', 'P3')
  const betweens = new Map<unknown, Between>()
  const ways = new Map<PeerId, Between>()
  const clients: MaestroClient[] = []
  onTestFinished(async () => {
    for (const client of clients) await client.close()
    for (const between of betweens.values()) between.close()
    await maestro.close()
  })
  return {
    async bus(self: PeerId, deps: BusDeps) {
      const between = new Between(maestro)
      await between.open()
      const client = new MaestroClient(between.url)
      clients.push(client)
      const bus = new MaestroBus({ ...deps, maestro: client, clock: systemClock, logger: silentLog }, { self })
      betweens.set(bus, between)
      ways.set(self, between)
      return bus
    },
    async kill(bus) {
      betweens.get(bus)!.close()
      void bus.stop()
    },
    fill: (mail) => maestro.fill(mail),
    interrupt: () => maestro.stop(),
    restore: () => maestro.start(),
    async inject(peer, text) {
      ways.get(peer)!.say(`event: file.added\ndata: ${text}\n\n`)
    },
  }
}
