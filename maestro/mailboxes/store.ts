import type { Mail } from '../../common/events/mail.ts'
import type { PeerId } from '../../common/ids.ts'

export interface Bounds {
  /** messages in one mailbox */
  readonly perMailbox: number
  /** messages in all mailboxes together */
  readonly inAll: number
}

/** `waiting`: messages in the mailbox now */
export type Put =
  | { readonly kind: 'stored'; readonly waiting: number }
  | { readonly kind: 'known'; readonly waiting: number }
  | { readonly kind: 'full'; readonly of: 'mailbox' | 'all' }

/**
 * Messages by recipient, oldest first. Every time is ms since the epoch; a message whose `expires` is not after `now` is
 * no longer seen, and swept sometime. What a method that writes resolves with survives a killed process.
 */
export interface MailboxStore {
  /** Keeps a message, unless one of that id is in the mailbox. */
  put(mail: Mail, now: number, bounds: Bounds): Promise<Put>
  /** Those after a position, with the position of each. 0: from the beginning. */
  list(peer: PeerId, after: number, limit: number, now: number): Promise<{ position: number; mail: Mail }[]>
  /** Removes messages; @returns how many of them there were */
  take(peer: PeerId, ids: readonly string[]): Promise<number>
  waiting(peer: PeerId, now: number): Promise<number>
  /** Messages in all mailboxes; expired ones count until they are swept. */
  size(): Promise<number>
  /** Removes up to `rows` expired messages; @returns how many */
  sweep(now: number, rows: number): Promise<number>
  close(): Promise<void>
}
