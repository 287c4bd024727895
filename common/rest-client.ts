import { Agent, type Dispatcher, request } from 'undici'
import type { z } from 'zod'
import { deadline } from './deadline.ts'
import { asNetworkError, errnoOf, NetworkError } from './errors.ts'

/** JSON over HTTP: bounded in time and bytes, answers validated, failures as the same typed errors that the server threw. */
export interface RestClientOptions {
  /** who is asked, for error messages: `the Maestro` */
  name: string
  /** `http://host:port` */
  baseUrl: string
  /** milliseconds for a whole call (default 5000) */
  timeoutMs?: number
  token?: string | undefined
}

export interface CallOptions {
  query?: Record<string, string | number | undefined>
  body?: unknown
  signal?: AbortSignal | undefined
  timeoutMs?: number
}

const MAX_RESPONSE = 32 * 1024 * 1024
const MAX_REFUSAL = 256 * 1024
/** To one server; more calls wait for one. Whoever makes a peer ask others must not make it open a thousand sockets. */
const MAX_CONNECTIONS = 64

export class RestClient {
  readonly baseUrl: string
  readonly name: string
  #timeoutMs: number
  #token: string | undefined
  #agent: Agent
  /** for answers without end; made when there is one */
  #endless: Agent | undefined

  constructor(options: RestClientOptions) {
    this.baseUrl = options.baseUrl.replace(/\/+$/, '')
    this.name = options.name
    this.#timeoutMs = options.timeoutMs ?? 5000
    this.#token = options.token
    this.#agent = new Agent({
      maxResponseSize: MAX_RESPONSE,
      connections: MAX_CONNECTIONS,
      connect: { timeout: this.#timeoutMs },
      headersTimeout: 0,
      bodyTimeout: 0,
    })
  }

  /**
   * @throws NetworkError as the server sent it; `unavailable` where it does not answer (details `reason`: `unreachable`
   *   or `timeout`); `corrupt` where the answer is not of the schema (`reason`: `unknown_answer`); `cancelled`
   */
  async call<S extends z.ZodType>(
    method: Dispatcher.HttpMethod,
    path: string,
    schema: S,
    options: CallOptions = {},
  ): Promise<z.output<S>> {
    const response = await this.send(method, path, options)
    let body: unknown
    try {
      body = await response.body.json()
    } catch (error) {
      throw this.#failure(error, options)
    }
    const parsed = schema.safeParse(body)
    if (!parsed.success)
      throw new NetworkError(
        'corrupt',
        `${this.name} at ${this.baseUrl} answered ${method} ${path} in a form that this program does not know`,
        { reason: 'unknown_answer', url: this.baseUrl },
      )
    return parsed.data
  }

  /**
   * The raw answer, its status checked; for bodies that are no JSON. The caller consumes `body`. Where it is `endless`,
   * as a stream of events is, the caller bounds what it keeps of it.
   */
  async send(
    method: Dispatcher.HttpMethod,
    path: string,
    options: CallOptions & {
      raw?: Dispatcher.DispatchOptions['body']
      headers?: Record<string, string>
      endless?: boolean
    } = {},
  ): Promise<Dispatcher.ResponseData> {
    const timeout = options.timeoutMs ?? this.#timeoutMs
    const headers: Record<string, string> = { accept: 'application/json', ...options.headers }
    if (options.body !== undefined) headers['content-type'] = 'application/json'
    if (this.#token !== undefined) headers.authorization = `Bearer ${this.#token}`
    const bound = timeout > 0 ? deadline(timeout, options.signal) : undefined
    let response: Dispatcher.ResponseData
    try {
      response = await request(this.baseUrl + path + queryString(options.query), {
        method,
        headers,
        body: options.raw ?? (options.body === undefined ? null : JSON.stringify(options.body)),
        signal: bound?.signal ?? options.signal,
        dispatcher: options.endless ? this.#withoutEnd() : this.#agent,
      })
    } catch (error) {
      bound?.clear()
      throw this.#failure(error, options)
    }
    // The body, too, has to come in time.
    response.body.once('close', () => bound?.clear())
    if (response.statusCode >= 400) {
      const body = await errorBody(response.body, this.#timeoutMs)
      throw (
        NetworkError.fromBody(body) ??
        new NetworkError(
          'corrupt',
          `${this.name} at ${this.baseUrl} answered ${method} ${path} with status ${response.statusCode}`,
          { reason: 'unknown_answer', url: this.baseUrl },
        )
      )
    }
    return response
  }

  async close(): Promise<void> {
    await Promise.all([this.#agent.destroy(), this.#endless?.destroy()])
  }

  #withoutEnd(): Agent {
    const timeout = this.#timeoutMs
    this.#endless ??= new Agent({ connect: { timeout }, headersTimeout: timeout, bodyTimeout: 0 })
    return this.#endless
  }

  #failure(error: unknown, options: CallOptions): NetworkError {
    if (error instanceof NetworkError) return error
    const name = error instanceof Error ? error.name : ''
    // A caller's own deadline is no wish to cancel.
    const timedOut = options.signal?.reason instanceof Error && options.signal.reason.name === 'TimeoutError'
    if (options.signal?.aborted && !timedOut) return new NetworkError('cancelled', 'cancelled', {}, error)
    if (name === 'TimeoutError' || name === 'AbortError' || name.includes('Timeout'))
      return new NetworkError(
        'unavailable',
        `${this.name} at ${this.baseUrl} does not answer in time`,
        { reason: 'timeout', url: this.baseUrl },
        error,
      )
    const errno = errnoOf(error) ?? ''
    if (/^(ECONN|EHOST|ENET|ENOTFOUND|EAI_|EPIPE|UND_ERR_)/.test(errno))
      return new NetworkError(
        'unavailable',
        `${this.name} at ${this.baseUrl} does not answer`,
        { reason: 'unreachable', url: this.baseUrl },
        error,
      )
    if (name === 'HTTPParserError')
      return new NetworkError(
        'corrupt',
        `${this.name} at ${this.baseUrl} speaks something other than HTTP: is that its gRPC port?`,
        { reason: 'unknown_answer', url: this.baseUrl },
        error,
      )
    if (error instanceof SyntaxError)
      return new NetworkError(
        'corrupt',
        `${this.name} at ${this.baseUrl} sent no valid JSON`,
        { reason: 'unknown_answer', url: this.baseUrl },
        error,
      )
    return asNetworkError(error)
  }
}

/** What a refusal says; undefined where it is no JSON, too long, or does not come within `ms`. */
async function errorBody(body: Dispatcher.ResponseData['body'], ms: number): Promise<unknown> {
  const late = setTimeout(() => body.destroy(new Error('the answer has no end')), ms)
  try {
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > MAX_REFUSAL) return undefined
      chunks.push(chunk)
    }
    return JSON.parse(Buffer.concat(chunks).toString())
  } catch {
    return undefined
  } finally {
    clearTimeout(late)
  }
}

function queryString(query: CallOptions['query']): string {
  const pairs = Object.entries(query ?? {}).filter(([, value]) => value !== undefined)
  return pairs.length === 0 ? '' : `?${new URLSearchParams(pairs.map(([k, v]): [string, string] => [k, String(v)]))}`
}
