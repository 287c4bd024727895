import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { ManualClock } from '../../common/clock.ts'
import type { NetworkError } from '../../common/errors.ts'
import { type Mail, MailSchema } from '../../common/events/mail.ts'
import type { OfferBody } from '../../common/events/rest.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { FakeNetwork } from '../transfer/manager.fixture.ts'
import type { TransferManager } from '../transfer/manager.ts'
import { Mailbox, type MailboxOptions } from './mailbox.ts'
import { OfferBook } from './offer-book.ts'

export const MINUTE = 60_000
export const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR
export const FILM = 'film.mkv' as FileName

/** Mailboxes in memory, and a way to them that a test can break. */
export class Post {
  readonly #boxes = new Map<PeerId, Map<string, Mail>>()
  /** all that was accepted, in order */
  readonly accepted: Mail[] = []
  /** what `send` fails with, for each message (undefined: it is accepted) */
  fault: (mail: Mail) => NetworkError | undefined = () => undefined

  send = async (mail: Mail): Promise<void> => {
    const fault = this.fault(mail)
    if (fault) throw fault
    MailSchema.parse(mail)
    this.accepted.push(mail)
    this.box(mail.to).set(mail.id, structuredClone(mail))
  }

  box(peer: PeerId): Map<string, Mail> {
    const box = this.#boxes.get(peer) ?? new Map<string, Mail>()
    this.#boxes.set(peer, box)
    return box
  }

  /** Hands over what waits for a peer, as a bus does. */
  async deliver({ id, mailbox }: TestPeer): Promise<void> {
    const box = this.box(id)
    const mail = [...box.values()]
    await mailbox.onMail(mail)
    for (const { id } of mail) box.delete(id)
  }

  sent(kind: Mail['kind']): Mail[] {
    return this.accepted.filter((mail) => mail.kind === kind)
  }
}

/** A peer with a mailbox, whose process can be killed and begun anew. */
export class TestPeer {
  readonly id: PeerId
  readonly network = new FakeNetwork()
  mailbox!: Mailbox
  transfers!: TransferManager
  readonly #post: Post
  readonly #clock: ManualClock
  readonly #options: Partial<MailboxOptions> & { mode?: 'real' | 'dummy' }
  readonly #folder = mkdtempSync(join(tmpdir(), 'p2p-mailbox-'))
  #book!: OfferBook

  constructor(
    id: string,
    post: Post,
    clock: ManualClock,
    options: Partial<MailboxOptions> & { mode?: 'real' | 'dummy' } = {},
  ) {
    this.id = id as PeerId
    this.#post = post
    this.#clock = clock
    this.#options = options
    this.#open()
    onTestFinished(async () => {
      await this.#close()
      rmSync(this.#folder, { recursive: true })
    })
  }

  /** Begins a new process with what is on disk. */
  async restart(): Promise<void> {
    await this.#close()
    this.#open()
    await this.mailbox.start()
  }

  share(name: FileName, id: ContentId): void {
    this.network.landing.set(name, id)
  }

  sent(peer?: string): OfferBody | undefined {
    return this.mailbox.list().sent.find((offer) => peer === undefined || offer.peer === peer)
  }

  received(): OfferBody | undefined {
    return this.mailbox.list().received[0]
  }

  #open(): void {
    this.#book = OfferBook.open(this.#folder, silentLog)
    this.transfers = this.network.manager({ clock: this.#clock }, { mode: this.#options.mode ?? 'real' })
    const { landing } = this.network
    this.mailbox = new Mailbox(
      {
        book: this.#book,
        catalog: {
          byId: (id) => [...landing].filter(([, content]) => content === id).map(([name]) => ({ name, size: 400 })),
          existing: (name) => landing.get(name),
        },
        transfers: this.transfers,
        send: this.#post.send,
        clock: this.#clock,
        log: silentLog,
      },
      { self: this.id, ...this.#options },
    )
  }

  async #close(): Promise<void> {
    await this.mailbox.stop()
    await this.transfers.stop()
    this.#book.close()
  }
}
