import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import net from 'node:net'
import { Connection, type SyncMessage } from 'rabbitmq-client'
import { onTestFinished, type TestContext } from 'vitest'
import { AmqpNames } from './amqp-topology.ts'

const NEEDED =
  'RabbitMQ is needed: start one with `rabbitmq-server -detached`, or say in AMQP_URL where one is (amqp://user:password@host:5672)'

/** Where the tests' RabbitMQ is. Without one a test is skipped, saying so; where CI is set it fails. */
export async function brokerUrl(t: TestContext): Promise<string> {
  const url = process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672'
  const { hostname, port } = new URL(url)
  if (!(await listens(hostname, Number(port || 5672)))) absent(t, NEEDED)
  return url
}

export function absent(t: TestContext, message: string): void {
  if (process.env.CI) throw new Error(message)
  t.skip(message)
}

async function listens(host: string, port: number): Promise<boolean> {
  const socket = net.connect({ host, port })
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(5000) })
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** A view of a broker from beside the bus, for one network of the test's own: all of it is deleted in the end. */
export class TestNetwork {
  readonly prefix = `test-${randomBytes(6).toString('hex')}`
  readonly names = new AmqpNames(this.prefix)
  readonly url: string
  readonly #connection: Connection
  readonly #processes: ReadonlySet<string>

  /** @param processes whose queues and mailboxes are there, perhaps */
  constructor(url: string, processes: readonly string[]) {
    this.url = url
    this.#processes = new Set(processes)
    this.#connection = new Connection({ url, retryLow: 100, retryHigh: 1000, acquireTimeout: 30_000 })
    this.#connection.on('error', () => {})
    onTestFinished(() => this.#remove())
  }

  get broker(): Connection {
    return this.#connection
  }

  /** Publishes to the exchange of events as a stranger could, or to a queue where `exchange` is ''. */
  async publish(bodies: string | Buffer | readonly string[], envelope: Record<string, unknown> = {}): Promise<void> {
    const channel = await this.#connection.acquire()
    try {
      await channel.confirmSelect()
      const all = Array.isArray(bodies) ? bodies : [bodies]
      const settings = {
        exchange: this.names.events,
        routingKey: 'file.added',
        contentType: 'application/json',
        durable: true,
        ...envelope,
      }
      for (let done = 0; done < all.length; done += 1000)
        await Promise.all(all.slice(done, done + 1000).map((body) => channel.basicPublish(settings, Buffer.from(body))))
    } finally {
      await channel.close()
    }
  }

  /** The next message of a queue, taken from it. */
  async take(queue: string): Promise<SyncMessage | undefined> {
    return this.#connection.basicGet({ queue, noAck: true })
  }

  /** How many messages wait in a queue; undefined where it isn't there. */
  async waiting(queue: string): Promise<number | undefined> {
    const channel = await this.#connection.acquire()
    try {
      return (await channel.queueDeclare({ queue, passive: true })).messageCount
    } catch {
      return undefined
    } finally {
      await channel.close()
    }
  }

  async #remove(): Promise<void> {
    try {
      for (const process of this.#processes) {
        await this.#connection.queueDelete(this.names.eventQueue(process))
        await this.#connection.queueDelete(this.names.mailbox(process))
      }
      await this.#connection.queueDelete(this.names.deadLetters)
      await this.#connection.exchangeDelete({ exchange: this.names.events })
      await this.#connection.exchangeDelete({ exchange: this.names.dead })
    } finally {
      this.#connection.unsafeDestroy()
    }
  }
}

/** A way to a TCP server that a test can cut. */
export interface CuttingProxy {
  readonly port: number
  /** connections made so far */
  readonly connections: number
  /** Ends all connections. */
  cut(): void
  /** Ends all connections, and refuses more until `heal`. */
  refuse(): Promise<void>
  /** Nothing passes any more in either direction, and no connection ends, until `heal`. */
  stall(): void
  heal(): Promise<void>
}

export async function cuttingProxy(target: { host: string; port: number }): Promise<CuttingProxy> {
  const sockets = new Set<net.Socket>()
  let stalled = false
  let connections = 0
  const server = net.createServer((near) => {
    connections++
    const far = net.connect(target)
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      from.setNoDelay(true)
      from.on('data', (chunk) => {
        if (!to.write(chunk)) from.pause()
      })
      to.on('drain', () => stalled || from.resume())
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        if (!stalled) to.destroy()
      })
    }
    if (stalled) for (const socket of [near, far]) socket.pause()
  })
  const cut = () => {
    for (const socket of [...sockets]) socket.destroy()
  }
  const listen = async (port: number) => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  }
  await listen(0)
  const port = (server.address() as net.AddressInfo).port
  onTestFinished(async () => {
    stalled = false
    cut()
    if (server.listening) await new Promise((resolve) => server.close(resolve))
  })
  return {
    port,
    get connections() {
      return connections
    },
    cut,
    async refuse() {
      const closed = new Promise((resolve) => server.close(resolve))
      cut()
      await closed
    },
    stall() {
      stalled = true
      for (const socket of sockets) socket.pause()
    },
    async heal() {
      stalled = false
      for (const socket of sockets) socket.resume()
      if (!server.listening) await listen(port)
    },
  }
}

/** The address of a broker as it is reached through a proxy. */
export function through(proxy: CuttingProxy, url: string, query = ''): string {
  const { username, password, pathname } = new URL(url)
  return `amqp://${username}:${password}@127.0.0.1:${proxy.port}${pathname}${query}`
}
