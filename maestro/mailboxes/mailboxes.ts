import { setImmediate } from 'node:timers/promises'
import { partyOf } from '../../common/address.ts'
import type { Rate } from '../../common/bucket.ts'
import type { Clock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import { MAIL_BYTES, MAILBOX_MESSAGES, MAX_EXPIRY_MS, type Mail } from '../../common/events/mail.ts'
import type { PeerId } from '../../common/ids.ts'
import { PartyLimits } from '../../common/party-limits.ts'
import type { Bounds, MailboxStore } from './store.ts'

export interface MailboxOptions extends Partial<Bounds> {
  /** messages that one remote host may leave */
  perSender?: Rate
}

const PER_SENDER: Rate = { perSecond: 200, atOnce: 5000 }
/** What a sender's clock may be ahead of this one, ms. */
const SKEW_MS = 24 * 3600 * 1000
const SWEEP_ROWS = 1000
/** When a full mailbox is worth another try, ms. */
const FULL_RETRY_MS = 60_000

/** Keeps messages for peers that are away: the rules. Where they are kept, a `MailboxStore` knows. */
export class Mailboxes {
  readonly #store: MailboxStore
  readonly #clock: Clock
  readonly #bounds: Bounds
  readonly #senders: PartyLimits
  readonly #listeners = new Set<(peer: PeerId, waiting: number) => void>()

  constructor(deps: { store: MailboxStore; clock: Clock }, options: MailboxOptions = {}) {
    this.#store = deps.store
    this.#clock = deps.clock
    this.#bounds = {
      perMailbox: options.perMailbox ?? MAILBOX_MESSAGES,
      inAll: options.inAll ?? 2_000_000,
    }
    this.#senders = new PartyLimits(options.perSender ?? PER_SENDER, () => deps.clock.now())
  }

  /**
   * Leaves a message; one that is there already stays as it is.
   * @param remote the host that it comes from, where known
   * @returns how many messages wait in that mailbox
   * @throws NetworkError `limited` (details `retry_ms`), `too_large`, `invalid`
   */
  async put(mail: Mail, remote?: string): Promise<number> {
    this.#admit(remote)
    const now = this.#clock.now()
    const bytes = Buffer.byteLength(JSON.stringify(mail))
    if (bytes > MAIL_BYTES)
      throw new NetworkError('too_large', `the message has ${bytes} bytes: ${MAIL_BYTES} are the most`, { id: mail.id })
    const expires = Date.parse(mail.expires)
    // Its time ended on its way: there is nothing to keep, and nothing wrong with it.
    if (expires <= now) return this.#store.waiting(mail.to, now)
    if (expires > now + MAX_EXPIRY_MS + SKEW_MS)
      throw new NetworkError('invalid', 'the message is to wait for more than a year: choose an earlier "expires"', {
        id: mail.id,
      })
    const put = await this.#store.put(mail, now, this.#bounds)
    if (put.kind === 'full')
      throw new NetworkError(
        'limited',
        put.of === 'all'
          ? 'this Maestro keeps no more messages at present: try again later'
          : `the mailbox of ${mail.to} is full (${this.#bounds.perMailbox} messages): try again when that peer has taken some`,
        { retry_ms: FULL_RETRY_MS },
      )
    if (put.kind === 'stored') for (const listener of this.#listeners) listener(mail.to, put.waiting)
    return put.waiting
  }

  /** @param after the `next` of the page before; @throws NetworkError `invalid` */
  async page(
    peer: PeerId,
    { limit, after }: { limit: number; after?: string | undefined },
  ): Promise<{ mail: Mail[]; next: string | null; waiting: number }> {
    const now = this.#clock.now()
    const rows = await this.#store.list(peer, positionOf(after), limit, now)
    const next = rows.length === limit ? String(rows.at(-1)!.position) : null
    return { mail: rows.map(({ mail }) => mail), next, waiting: await this.#store.waiting(peer, now) }
  }

  /** Removes messages; those that are not there are none. @returns how many wait still */
  async taken(peer: PeerId, ids: readonly string[]): Promise<number> {
    await this.#store.take(peer, ids)
    return this.waiting(peer)
  }

  waiting(peer: PeerId): Promise<number> {
    return this.#store.waiting(peer, this.#clock.now())
  }

  /** Messages in all mailboxes. */
  size(): Promise<number> {
    return this.#store.size()
  }

  /** Calls back when a new message is in a mailbox. @returns how to stop listening */
  onMail(listener: (peer: PeerId, waiting: number) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Removes what has expired, in bites between other work. Call it now and then. */
  async sweep(signal?: AbortSignal): Promise<void> {
    const now = this.#clock.now()
    while (!signal?.aborted && (await this.#store.sweep(now, SWEEP_ROWS)) === SWEEP_ROWS) await setImmediate()
  }

  close(): Promise<void> {
    return this.#store.close()
  }

  #admit(remote: string | undefined): void {
    const sender = partyOf(remote)
    if (sender !== undefined && !this.#senders.take(sender))
      throw new NetworkError('limited', `${sender} leaves too many messages at once: slow down`, {
        retry_ms: this.#senders.wait(sender, 1),
      })
  }
}

function positionOf(after: string | undefined): number {
  if (after === undefined) return 0
  const position = Number(after)
  if (!/^\d{1,16}$/.test(after) || !Number.isSafeInteger(position))
    throw new NetworkError('invalid', '"after" is the "next" of a page before')
  return position
}
