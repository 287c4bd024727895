import type { Socket } from 'node:net'
import { type Channel, Connection } from 'rabbitmq-client'
import { NetworkError } from '../errors.ts'
import { type BrokerAddress, brokerProblem } from './amqp-address.ts'

/** Longest that the broker may take to answer, ms: it commits to its disk meanwhile. */
const ANSWER_MS = 30_000
/** The longest frame that is read; those agreed upon have 8 KiB. */
const FRAME_BYTES = 256 * 1024
/** Longest that a polite end may take, ms. */
const CLOSE_MS = 1000

/**
 * One connection to a RabbitMQ, for as long as all about it is well: where the socket, a channel or a consumer ends,
 * all of it does. So there is one way to recover, which is to begin anew.
 */
export class Session {
  readonly #address: BrokerAddress
  readonly #connection: Connection
  readonly #channels: Channel[] = []
  readonly #waiting = new Set<(error: NetworkError) => void>()
  #open = false
  #closing = false
  #blocked: NetworkError | undefined
  #failure: NetworkError | undefined
  #ended!: (failure: NetworkError) => void
  /** Why it ended, when it has. */
  readonly over: Promise<NetworkError>

  /** @param onBlocked the broker stops taking what is published, or goes on */
  constructor(address: BrokerAddress, name: string, onBlocked: () => void) {
    this.#address = address
    this.over = new Promise((resolve) => {
      this.#ended = resolve
    })
    this.#connection = new Connection({ ...address.options, connectionName: name })
    boundFrames(this.#connection)
    this.#connection.on('connection', () => {
      this.#open = true
    })
    this.#connection.on('error', (error) => this.fail(error))
    this.#connection.on('connection.blocked', (reason) => {
      this.#blocked = new NetworkError(
        'unavailable',
        `the RabbitMQ at ${address.place} takes nothing at present (${reason}): free some of its disk or memory`,
        { reason: 'blocked' },
      )
      this.#refuseWaiting(this.#blocked)
      onBlocked()
    })
    this.#connection.on('connection.unblocked', () => {
      this.#blocked = undefined
      onBlocked()
    })
  }

  /** Why nothing can be published at present. */
  get blocked(): NetworkError | undefined {
    return this.#blocked
  }

  get failure(): NetworkError | undefined {
    return this.#failure
  }

  /** A channel that lives as long as the session. */
  async channel(): Promise<Channel> {
    const channel = await this.#connection.acquire({ emitErrorsFromChannel: true })
    this.#channels.push(channel)
    channel.on('error', (error) => this.fail(error))
    // What closed it is told to whoever waits for it first, and says more.
    channel.on('close', () => setImmediate(() => this.#closing || this.fail(new Error('a channel was closed'))))
    channel.on('basic.cancel', (_tag, error) => this.fail(error))
    return channel
  }

  /** Whether the queue exists, and how much is in it; a refused look costs a channel. */
  async look(queue: string): Promise<{ messages: number } | undefined> {
    const channel = await this.#connection.acquire({ emitErrorsFromChannel: true })
    try {
      const { messageCount } = await channel.queueDeclare({ queue, passive: true })
      return { messages: messageCount }
    } catch (error) {
      if ((error as { code?: unknown }).code === 'NOT_FOUND') return undefined
      throw error
    } finally {
      await channel.close()
    }
  }

  /**
   * The result of `work` with the broker; where that fails otherwise than by a refusal of the one message, so does
   * the session.
   * @throws NetworkError `unavailable` where the session ends, is blocked, or no answer comes within 30 s; `cancelled`
   */
  within<T>(work: Promise<T>, signal?: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        this.#waiting.delete(refuse)
      }
      const refuse = (error: NetworkError) => {
        settle()
        reject(error)
      }
      const onAbort = () => refuse(new NetworkError('cancelled', 'cancelled'))
      const timer = setTimeout(
        () =>
          this.fail(
            new NetworkError(
              'unavailable',
              `the RabbitMQ at ${this.#address.place} has not answered within ${ANSWER_MS / 1000} s`,
              { reason: 'timeout' },
            ),
          ),
        ANSWER_MS,
      )
      this.#waiting.add(refuse)
      signal?.addEventListener('abort', onAbort)
      work.then(
        (result) => {
          settle()
          resolve(result)
        },
        (error) => refuse(isNack(error) ? nack(this.#address.place) : this.fail(error)),
      )
      if (this.#failure) refuse(this.#failure)
      else if (signal?.aborted) onAbort()
    })
  }

  /** Ends it at once. @returns why it ended: this, or what came before */
  fail(error: unknown): NetworkError {
    if (this.#failure) return this.#failure
    this.#failure = brokerProblem(error, this.#address.place, this.#open)
    this.#connection.unsafeDestroy()
    this.#refuseWaiting(this.#failure)
    this.#ended(this.#failure)
    return this.#failure
  }

  /** Ends it politely, within a second. */
  async close(): Promise<void> {
    if (this.#failure) return
    this.#closing = true
    const polite = Promise.all(this.#channels.map((channel) => channel.close())).then(() => this.#connection.close())
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_MS)
    })
    await Promise.race([polite.catch(() => {}), late])
    clearTimeout(timer)
    this.fail(new NetworkError('cancelled', 'the connection was closed'))
  }

  #refuseWaiting(error: NetworkError): void {
    for (const refuse of [...this.#waiting]) refuse(error)
  }
}

interface ConnectionInside {
  _socket: Socket
}

/**
 * The library waits for as many bytes as a frame says that it has, 4 GiB perhaps where what answers speaks another
 * protocol, and what the socket throws then ends the process.
 */
function boundFrames(connection: Connection): void {
  const socket = (connection as unknown as ConnectionInside)._socket
  const read = socket.read.bind(socket)
  socket.read = (size) => {
    if (size === undefined || size <= FRAME_BYTES) return read(size)
    socket.destroy(Object.assign(new Error(`a frame of ${size} bytes`), { code: 'FRAME_ERROR' }))
    return null
  }
}

function isNack(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === 'NACK'
}

function nack(place: string): NetworkError {
  return new NetworkError('unavailable', `the RabbitMQ at ${place} did not take a message`, { reason: 'nack' })
}
