import { setTimeout as pause } from 'node:timers/promises'
import { RestClient } from '../common/rest-client.ts'
import { isEndState, PeerInfo, type TransferBody, TransferSchema, UploadsResponse } from '../common/schemas.ts'

/** how often a transfer is asked for its end */
const POLL_MS = 20

/** An agent's REST as the benchmarks use it. Its connections end with the agent. */
export class AgentClient {
  readonly #rest: RestClient

  /** @param token where the agent is on a host of its own */
  constructor(url: string, token?: string) {
    this.#rest = new RestClient({ name: 'the agent', baseUrl: url, token })
  }

  /** Whether its catalog is complete, with so many files. */
  async hasScanned(files: number): Promise<boolean> {
    const info = await this.#rest.call('GET', '/info', PeerInfo)
    return !info.scanning && info.files === files
  }

  async isRegistered(): Promise<boolean> {
    return (await this.#rest.call('GET', '/info', PeerInfo)).maestro === 'registered'
  }

  /** @returns the number of the transfer */
  async download(what: { file: string } | { folder: string }): Promise<string> {
    return (await this.#rest.call('POST', '/transfers', TransferSchema, { body: what })).transfer
  }

  transfer(number: string): Promise<TransferBody> {
    return this.#rest.call('GET', `/transfers/${number}`, TransferSchema)
  }

  /** Of how many pieces a content is that it gives, and how many of them have left in full at least once. */
  async uploads(): Promise<{ pieces: number; sent_once: number }[]> {
    return (await this.#rest.call('GET', '/uploads', UploadsResponse)).uploads
  }

  /**
   * Waits for the end of a transfer.
   * @throws where it ends otherwise than well, or not within `ms`
   */
  async finished(number: string, ms: number): Promise<TransferBody> {
    const deadline = Date.now() + ms
    for (;;) {
      const now = await this.transfer(number)
      if (now.state === 'done') return now
      if (isEndState(now.state)) throw new Error(`the transfer ${failureOf(now)}`)
      if (Date.now() > deadline) throw new Error(`the transfer was not done after ${ms / 1000} s`)
      await pause(POLL_MS)
    }
  }
}

/** How it ended, and why, of one that did not end well. */
export function failureOf({ state, error }: TransferBody): string {
  return `${state}: ${error?.message ?? 'no reason given'}`
}
