import type { AddressInfo, Server } from 'node:net'
import { connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'vitest'
import { expect } from 'vitest'
import type { z } from 'zod'
import {
  LimitsResponse,
  type TransferBody,
  type TransferRequest,
  TransferSchema,
  UploadsResponse,
} from '../common/schemas.ts'
import type { TestPeer } from './cluster.ts'

/** Of agents that must find each other however busy the machine is. */
export const PATIENT = { lookup_timeout_ms: 20_000 }

/** A transfer that a test looks at while it runs, through the agent's REST interface. */
export class Watched {
  readonly peer: TestPeer
  readonly number: string
  /** as it was last seen */
  last!: TransferBody

  constructor(peer: TestPeer, number: string) {
    this.peer = peer
    this.number = number
  }

  async look(): Promise<TransferBody> {
    this.last = await this.peer.rest.call('GET', `/transfers/${this.number}`, TransferSchema)
    return this.last
  }

  /** Bytes that came from each peer it knows of. */
  async givers(): Promise<Map<string, number>> {
    const { providers } = await this.look()
    return new Map(providers.map(({ peer, bytes }) => [peer, bytes]))
  }

  /** Pause or resume; the state that the answer tells. */
  async command(action: 'pause' | 'resume'): Promise<string> {
    this.last = await this.peer.rest.call('POST', `/transfers/${this.number}/${action}`, TransferSchema)
    return this.last.state
  }

  /** Its own limit from now on, bytes a second; null: none. */
  async limit(bytesPerSecond: number | null): Promise<void> {
    const body = { limit: bytesPerSecond }
    this.last = await this.peer.rest.call('PATCH', `/transfers/${this.number}`, TransferSchema, { body })
  }

  async cancel(): Promise<void> {
    this.last = await this.peer.rest.call('DELETE', `/transfers/${this.number}`, TransferSchema)
  }

  /** Waits until it is in this state; a failure that it tells is shown. */
  async is(state: TransferBody['state'], timeout = 30_000): Promise<TransferBody> {
    const seen = async () => {
      const { state, error } = await this.look()
      return error ? `${state}: ${error.message}` : state
    }
    try {
      await expect.poll(seen, { timeout, interval: 20 }).toBe(state)
    } catch (error) {
      throw new Error(`${this.peer.id}: ${JSON.stringify(this.last)}`, { cause: error })
    }
    return this.last
  }

  /** Waits until so many bytes are verified. */
  async has(bytes: number, timeout = 30_000): Promise<TransferBody> {
    await expect.poll(async () => (await this.look()).bytes, { timeout, interval: 10 }).toBeGreaterThanOrEqual(bytes)
    return this.last
  }
}

export async function begin(peer: TestPeer, body: z.input<typeof TransferRequest>): Promise<Watched> {
  const begun = await peer.rest.call('POST', '/transfers', TransferSchema, { body })
  const watched = new Watched(peer, begun.transfer)
  watched.last = begun
  return watched
}

/** What a peer gave and gives of a content. */
export async function given(
  peer: TestPeer,
  id: string | null,
): Promise<{ takers: number; sent_once: number; bytes: number }> {
  const { uploads } = await peer.rest.call('GET', '/uploads', UploadsResponse)
  return uploads.find((upload) => upload.id === id) ?? { takers: 0, sent_once: 0, bytes: 0 }
}

/** The agent's limits from now on, bytes a second; null: none. */
export async function limit(peer: TestPeer, body: { upload?: number | null; download?: number | null }): Promise<void> {
  await peer.rest.call('PUT', '/limits', LimitsResponse, { body })
}

/** A network link on this machine, that a test may cut, let fall silent, and mend. */
export class Link {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #up = true

  static async to(t: Pick<TestContext, 'onTestFinished'>, port: number): Promise<Link> {
    const link = new Link(port)
    await new Promise<void>((resolve) => link.#server.listen(0, '127.0.0.1', resolve))
    t.onTestFinished(() => link.#close())
    return link
  }

  private constructor(port: number) {
    this.#server = createServer((from) => {
      if (!this.#up) return from.destroy()
      const to = connect(port, '127.0.0.1')
      for (const [socket, other] of [
        [from, to],
        [to, from],
      ] as const) {
        this.#sockets.add(socket)
        socket.on('error', () => {})
        socket.on('close', () => {
          this.#sockets.delete(socket)
          other.destroy()
        })
        socket.pipe(other)
      }
      return undefined
    })
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Ends all connections, and refuses new ones. */
  cut(): void {
    this.#up = false
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Nothing passes any more, and nobody is told. */
  silence(): void {
    for (const socket of this.#sockets) {
      socket.unpipe()
      socket.pause()
    }
  }

  mend(): void {
    this.#up = true
  }

  async #close(): Promise<void> {
    this.cut()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}
