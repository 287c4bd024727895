import { setTimeout as pause } from 'node:timers/promises'

/** A transfer as an agent tells it; what this agent does not tell is missing. */
export interface TransferNow {
  state: string
  bytes: number
  /** ISO 8601 */
  started: string
  seconds: number
  error: { message: string } | null
  /** null until it has found its content */
  pieces?: { total: number; verified: number } | null
  /** payload bytes that the network brought for it, those thrown away too */
  received?: number
  /** of a folder */
  files?: { done: number; total: number }
}

/** What an agent gives of one content. */
export interface UploadNow {
  id: string
  pieces: number
  /** distinct pieces that were sent in full at least once */
  sent_once: number
}

/** An agent answered with a refusal. */
export class Refusal extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

const ANSWER_MS = 5_000
const ENDS = ['done', 'failed', 'cancelled', 'simulated']

/** An agent's REST as the benchmarks use it: plain JSON, with the token where the agent is on a host of its own. */
export class AgentClient {
  readonly #url: string
  readonly #headers: Record<string, string>

  constructor(url: string, token?: string) {
    this.#url = url
    this.#headers = {
      'content-type': 'application/json',
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    }
  }

  /** Whether its catalog is complete, with so many files. */
  async hasScanned(files: number): Promise<boolean> {
    const info = (await this.#call('GET', '/info')) as { files: number; scanning: boolean }
    return !info.scanning && info.files === files
  }

  async isRegistered(): Promise<boolean> {
    return ((await this.#call('GET', '/info')) as { maestro: string }).maestro === 'registered'
  }

  /** @returns the number of the transfer */
  async download(what: { file: string } | { folder: string }): Promise<string> {
    return ((await this.#call('POST', '/transfers', what)) as { transfer: string }).transfer
  }

  async transfer(number: string): Promise<TransferNow> {
    return (await this.#call('GET', `/transfers/${number}`)) as TransferNow
  }

  async uploads(): Promise<UploadNow[]> {
    return ((await this.#call('GET', '/uploads')) as { uploads: UploadNow[] }).uploads
  }

  /**
   * Waits for the end of a transfer.
   * @throws where it ends otherwise than well, or not within `ms`
   */
  async finished(number: string, ms: number): Promise<TransferNow> {
    const deadline = Date.now() + ms
    for (;;) {
      const now = await this.transfer(number)
      if (now.state === 'done') return now
      if (hasEnded(now)) throw new Error(`the transfer ${now.state}: ${now.error?.message ?? 'no reason given'}`)
      if (Date.now() > deadline) throw new Error(`the transfer was not done after ${ms / 1000} s`)
      await pause(20)
    }
  }

  async #call(method: string, path: string, body?: unknown): Promise<unknown> {
    const response = await fetch(`${this.#url}${path}`, {
      method,
      headers: this.#headers,
      signal: AbortSignal.timeout(ANSWER_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const answer = (await response.json().catch(() => undefined)) as { error?: { message?: string } } | undefined
    if (!response.ok) throw new Refusal(response.status, answer?.error?.message ?? `status ${response.status}`)
    return answer
  }
}

/** Whether it changes no more. */
export function hasEnded({ state }: TransferNow): boolean {
  return ENDS.includes(state)
}

/** Asks until the answer is yes; an agent that does not answer has not said so. */
export async function until(what: string, ms: number, ask: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + ms
  while (!(await ask().catch(() => false))) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${ms / 1000} s`)
    await pause(50)
  }
}
