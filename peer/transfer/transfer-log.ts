import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import { errnoOf } from '../../common/errors.ts'
import type { Logger } from '../../common/log.ts'
import { ContentIdSchema, FileNameSchema, StrategyNameSchema, TransferModeSchema } from '../../common/schemas.ts'

const MAX_TRANSFERS = 10_000
const MAX_BYTES = 32 * 1024 * 1024

const LimitSchema = z.int().min(1).nullable()
const SavedTransferSchema = z.object({
  /** its number */
  transfer: z.string().regex(/^[1-9]\d{0,14}$/),
  mode: TransferModeSchema,
  /** as it was asked for */
  request: z.object({
    file: FileNameSchema.optional(),
    id: ContentIdSchema.optional(),
    folder: FileNameSchema.optional(),
    as: FileNameSchema.optional(),
    via: StrategyNameSchema.optional(),
  }),
  /** what was found out */
  name: FileNameSchema.nullable(),
  id: ContentIdSchema.nullable(),
  paused: z.boolean(),
  limit: LimitSchema,
  /** ms since the epoch */
  started: z.int(),
})
export type SavedTransfer = z.infer<typeof SavedTransferSchema>

const SavedSchema = z.object({
  /** numbers that were given so far */
  count: z.int().min(0),
  transfers: z.array(SavedTransferSchema).max(MAX_TRANSFERS),
})
export type SavedTransfers = z.infer<typeof SavedSchema>

/** Remembers unfinished transfers from one run of the agent to the next. */
export interface TransferLog {
  load(): SavedTransfers
  /** Replaces what is remembered. Never throws: a transfer does not fail because it can't be remembered. */
  save(saved: SavedTransfers): void
}

/**
 * A JSON file. It is replaced in one step, so that a process that is killed leaves the old or the new one; at a loss of
 * power the last changes may be lost, and with them no byte of any download.
 */
export class TransferFile implements TransferLog {
  readonly #file: string
  readonly #log: Logger
  #failing = false

  constructor(deps: { log: Logger }, options: { file: string }) {
    this.#file = options.file
    this.#log = deps.log
  }

  load(): SavedTransfers {
    let text: string
    try {
      text = readFileSync(this.#file, 'utf8')
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') this.#log.warn({ file: this.#file, err: error }, 'the transfers can not be read')
      return { count: 0, transfers: [] }
    }
    try {
      if (text.length > MAX_BYTES) throw new Error(`it is larger than ${MAX_BYTES} bytes`)
      return SavedSchema.parse(JSON.parse(text))
    } catch (error) {
      this.#moveAside(error)
      return { count: 0, transfers: [] }
    }
  }

  save(saved: SavedTransfers): void {
    try {
      writeFileSync(`${this.#file}.new`, JSON.stringify(saved))
      renameSync(`${this.#file}.new`, this.#file)
      this.#failing = false
    } catch (error) {
      if (!this.#failing) this.#log.warn({ file: this.#file, err: error }, 'the transfers can not be saved')
      this.#failing = true
    }
  }

  #moveAside(reason: unknown): void {
    const aside = `${this.#file}.broken`
    this.#log.warn({ file: this.#file, aside, err: reason }, 'the list of transfers is broken, and is moved aside')
    try {
      renameSync(this.#file, aside)
    } catch (error) {
      this.#log.warn({ file: this.#file, err: error }, 'the broken list of transfers can not be moved aside')
    }
  }
}

/** Remembers nothing. */
export const forgetful: TransferLog = { load: () => ({ count: 0, transfers: [] }), save: () => {} }
