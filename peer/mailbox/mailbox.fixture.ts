import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type MockInstance, onTestFinished, vi } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import { type Mail, MailSchema, type OfferMail, type ReceiptMail } from '../../common/events/mail.ts'
import type { OfferBody } from '../../common/events/rest.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { FakeNetwork, idOf } from '../transfer/manager.fixture.ts'
import type { TransferManager } from '../transfer/manager.ts'
import { TransferFile } from '../transfer/transfer-log.ts'
import { Mailbox, type MailboxOptions } from './mailbox.ts'
import { OfferBook } from './offer-book.ts'

export const SECOND = 1000
export const MINUTE = 60 * SECOND
export const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR
/** of the clock */
export const START = new ManualClock().now()
export const FILM = 'film.mkv' as FileName

/** All that follows from what a test did before: everything here is in memory, or SQLite, which waits for nothing. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate)
}

export function offerMail(from: string, more: Partial<OfferMail> = {}): OfferMail {
  return {
    ...{ v: 1, id: 'o1', from: from as PeerId, to: 'P2' as PeerId, kind: 'offer' },
    ...{ sent: new Date(START).toISOString(), expires: new Date(START + 30 * DAY).toISOString() },
    ...{ name: FILM, content: idOf('a'), size: 400, ...more },
  }
}

export function receiptMail(from: string, offer: string, more: Partial<ReceiptMail> = {}): ReceiptMail {
  return {
    ...{ v: 1, id: `r-${from}-${more.state}`, from: from as PeerId, to: 'P1' as PeerId, kind: 'receipt' },
    ...{ sent: new Date(START).toISOString(), expires: new Date(START + 30 * DAY).toISOString() },
    ...{ offer, state: 'taken', reason: null, ...more },
  }
}

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
  /** contents that nobody is known to have */
  readonly unknown = new Set<ContentId>()
  transfers!: TransferManager
  readonly #post: Post
  readonly #clock: ManualClock
  readonly #options: Partial<MailboxOptions> & { mode?: 'real' | 'dummy' }
  readonly folder = mkdtempSync(join(tmpdir(), 'p2p-mailbox-'))
  #book!: OfferBook
  #disk: MockInstance[] = []

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
      rmSync(this.folder, { recursive: true })
    })
  }

  /** Begins a new process with what is on disk. */
  async restart(): Promise<void> {
    await this.#close()
    this.#open()
    this.transfers.restore()
    await this.mailbox.start()
  }

  /** Nothing more is recorded until it is false again. */
  set diskFull(full: boolean) {
    for (const spy of this.#disk) spy.mockRestore()
    const refuse = () => {
      throw new NetworkError('unavailable', 'no room for the mailbox: free some space', { reason: 'disk_full' })
    }
    const writes = ['change', 'transaction', 'expire'] as const
    this.#disk = full ? writes.map((write) => vi.spyOn(this.#book, write).mockImplementation(refuse)) : []
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
    this.#book = OfferBook.open(this.folder, silentLog)
    const saved = new TransferFile({ log: silentLog }, { file: join(this.folder, 'transfers.json') })
    this.transfers = this.network.manager({ clock: this.#clock, saved }, { mode: this.#options.mode ?? 'real' })
    const { landing } = this.network
    this.mailbox = new Mailbox(
      {
        book: this.#book,
        catalog: {
          byId: (id) => [...landing].filter(([, content]) => content === id).map(([name]) => ({ name, size: 400 })),
          existing: (name) => landing.get(name),
        },
        transfers: this.transfers,
        scout: { isWorthwhile: async (id) => !this.unknown.has(id), foundNobody: () => {} },
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
