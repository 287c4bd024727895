import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import { errnoOf } from '../../common/errors.ts'
import type { Logger } from '../../common/log.ts'
import { PeerIdSchema } from '../../common/schemas.ts'
import type { RememberedPeer } from './known-peers.ts'

const MAX_BYTES = 1024 * 1024
const PortSchema = z.int().min(1).max(65_535)

const Saved = z
  .array(
    z.object({
      peer: PeerIdSchema,
      host: z.string().min(1).max(255),
      rest_port: PortSchema,
      grpc_port: PortSchema,
      /** when it answered last, ms since the epoch */
      seen: z.int().min(0),
    }),
  )
  .max(1000)

/** Remembers known peers from one run of the agent to the next. */
export interface BookFile {
  load(): RememberedPeer[]
  /** Replaces what is remembered. Never throws: nothing fails because it can't be remembered. */
  save(peers: readonly RememberedPeer[]): void
}

/** A JSON file, replaced in one step: a process that is killed leaves the old or the new one. */
export class PeerBookFile implements BookFile {
  readonly #file: string
  readonly #log: Logger
  #failing = false

  constructor(deps: { log: Logger }, options: { file: string }) {
    this.#log = deps.log
    this.#file = options.file
  }

  load(): RememberedPeer[] {
    try {
      if (statSync(this.#file).size > MAX_BYTES) throw new Error(`it is larger than ${MAX_BYTES} bytes`)
      return Saved.parse(JSON.parse(readFileSync(this.#file, 'utf8'))).map(
        ({ peer, host, rest_port: restPort, grpc_port: grpcPort, seen }) => ({
          contact: { peer, host, restPort, grpcPort },
          standing: 'lost',
          seenAt: seen,
        }),
      )
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT')
        this.#log.warn({ file: this.#file, err: error }, 'the known peers are unreadable and begin empty')
      return []
    }
  }

  save(peers: readonly RememberedPeer[]): void {
    const saved = peers.map(({ contact: { peer, host, restPort, grpcPort }, seenAt }) => ({
      peer,
      host,
      rest_port: restPort,
      grpc_port: grpcPort,
      seen: Math.floor(seenAt),
    }))
    try {
      writeFileSync(`${this.#file}.new`, JSON.stringify(saved))
      renameSync(`${this.#file}.new`, this.#file)
      this.#failing = false
    } catch (error) {
      if (!this.#failing) this.#log.warn({ file: this.#file, err: error }, 'the known peers can not be saved')
      this.#failing = true
    }
  }
}
