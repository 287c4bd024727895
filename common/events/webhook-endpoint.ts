import { createHmac } from 'node:crypto'
import type { LookupAddress } from 'node:dns'
import { lookup } from 'node:dns/promises'
import { isIP, type LookupFunction } from 'node:net'
import { Agent, request } from 'undici'
import { isInternal } from '../address.ts'
import type { Clock } from '../clock.ts'
import { deadline } from '../deadline.ts'
import { errnoOf, NetworkError } from '../errors.ts'
import { VERSION } from '../project.ts'
import type { LoggedEvent } from './log.ts'

/** Of an answer's body, which nobody reads; a longer one costs the connection. */
const MAX_ANSWER = 16 * 1024
const SECRET_PREFIX = 'whsec_'

export interface EndpointDeps {
  clock: Clock
  /** all addresses of a name (default: the system's resolver) */
  resolve?: ((name: string) => Promise<readonly LookupAddress[]>) | undefined
  /** where nothing is posted unless it is allowed (default: every internal address) */
  isInternal?: ((host: string) => boolean) | undefined
}

export interface EndpointOptions {
  url: string
  /** a text, or `whsec_` and Base64 */
  secret: string
  allowInternal: boolean
  /** for one attempt, from the name's resolution to the end of the answer */
  timeoutMs: number
}

/**
 * Where events are posted, one at a time, each signed as in the Standard Webhooks specification. A name's addresses are
 * checked where they are used to connect: no answer of a resolver is trusted for longer than that.
 */
export class WebhookEndpoint {
  /** for people; without the path, which may be a secret */
  readonly name: string
  readonly #url: URL
  readonly #key: Buffer
  readonly #clock: Clock
  readonly #timeoutMs: number
  readonly #refused: (host: string) => boolean
  readonly #agent: Agent

  /** @throws NetworkError `invalid`: an URL or secret that can't be used */
  constructor(deps: EndpointDeps, options: EndpointOptions) {
    this.#url = parseUrl(options.url)
    this.name = `the webhook at ${this.#url.origin}`
    this.#key = keyOf(options.secret)
    this.#clock = deps.clock
    this.#timeoutMs = options.timeoutMs
    this.#refused = options.allowInternal ? () => false : (deps.isInternal ?? isInternal)
    this.#agent = new Agent({
      connections: 1,
      connect: { lookup: this.#lookup(deps.resolve ?? resolveName), timeout: options.timeoutMs },
      headersTimeout: 0,
      bodyTimeout: 0,
    })
  }

  /**
   * @returns the status of the answer; no redirect is followed
   * @throws NetworkError `forbidden`: it is at an internal address; `unavailable`: no answer; `cancelled`
   */
  async post({ event, text }: LoggedEvent, signal: AbortSignal): Promise<number> {
    const host = this.#url.hostname.replace(/^\[|\]$/g, '')
    // A literal address is connected to without a lookup.
    if (this.#refused(host)) throw this.#refusal(host)
    const timestamp = String(Math.floor(this.#clock.now() / 1000))
    const signature = createHmac('sha256', this.#key).update(`${event.id}.${timestamp}.${text}`).digest('base64')
    const bound = deadline(this.#timeoutMs, signal)
    try {
      const { statusCode, body } = await request(this.#url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'user-agent': `maestro-p2p/${VERSION}`,
          'webhook-id': event.id,
          'webhook-timestamp': timestamp,
          'webhook-signature': `v1,${signature}`,
        },
        body: text,
        signal: bound.signal,
        dispatcher: this.#agent,
      })
      await body.dump({ limit: MAX_ANSWER, signal: bound.signal }).catch(() => {})
      return statusCode
    } catch (error) {
      if (signal.aborted) throw new NetworkError('cancelled', 'cancelled', {}, error)
      if (error instanceof NetworkError) throw error
      throw new NetworkError('unavailable', `${this.name} ${this.#complaint(error)}`, {}, error)
    } finally {
      bound.clear()
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy()
  }

  #lookup(resolve: NonNullable<EndpointDeps['resolve']>): LookupFunction {
    return (name, { all }, callback) => {
      resolve(name).then(
        (addresses) => {
          const refused = addresses.find(({ address }) => this.#refused(address))
          const [first] = addresses
          if (refused) callback(this.#refusal(refused.address), '')
          else if (all) callback(null, [...addresses])
          else if (first) callback(null, first.address, first.family)
          else callback(new Error('no address'), '')
        },
        (error: Error) => callback(error, ''),
      )
    }
  }

  #refusal(address: string): NetworkError {
    const where = isIP(this.#url.hostname) === 0 ? ` (${address})` : ''
    return new NetworkError(
      'forbidden',
      `${this.name} is at an internal address${where}: nothing is posted there unless "webhook_allow_internal" is true`,
    )
  }

  #complaint(error: unknown): string {
    const name = error instanceof Error ? error.name : ''
    if (/Timeout|Abort/.test(name)) return `does not answer within ${this.#timeoutMs / 1000} s`
    const code = errnoOf(error) ?? name
    if (/CERT|SELF_SIGNED|SIGNATURE/.test(code)) return `has a certificate that is not trusted here (${code})`
    return `does not answer (${code})`
  }
}

function resolveName(name: string): Promise<LookupAddress[]> {
  return lookup(name, { all: true })
}

function parseUrl(text: string): URL {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    throw new NetworkError('invalid', 'webhook_url is not a URL such as https://hooks.example/events')
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new NetworkError('invalid', 'webhook_url is not an http or https URL')
  if (url.username || url.password)
    throw new NetworkError(
      'invalid',
      'webhook_url has a user name or password in it: the signature by webhook_secret says who posts',
    )
  return url
}

function keyOf(secret: string): Buffer {
  if (!secret.startsWith(SECRET_PREFIX)) return Buffer.from(secret)
  const base64 = secret.slice(SECRET_PREFIX.length)
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64))
    throw new NetworkError('invalid', `webhook_secret begins with "${SECRET_PREFIX}", but what follows is no Base64`)
  return Buffer.from(base64, 'base64')
}
