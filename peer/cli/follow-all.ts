import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { isEndState, type TransferBody } from '../../common/schemas.ts'
import type { Cli } from './cli.ts'
import type { PeerClient } from './client.ts'
import type { Screen } from './output.ts'
import { COLUMNS, lineOf, rowOf } from './transfer-rows.ts'

const DRAW_MS = 100
/** Ended transfers that are kept to be shown. */
const MAX_ENDED = 200

/** Shows all transfers of the agent as they change, until Ctrl-C, which is the way to end it and no failure. */
export async function followAll(agent: PeerClient, cli: Cli): Promise<void> {
  const screen = cli.out.screen()
  const live = screen && new LiveTable(screen)
  try {
    for await (const transfer of agent.allTransferEvents()) {
      cli.out.documentLine(transfer)
      if (live) live.show(transfer)
      else cli.out.line(lineOf(transfer))
    }
  } catch (error) {
    if (cli.io.signal.aborted) return
    throw asNetworkError(error).code === 'cancelled' ? gone(agent, error) : error
  } finally {
    live?.stop()
  }
  throw gone(agent)
}

/** Those under way first, then those that ended last; as many as fit. */
class LiveTable {
  readonly #screen: Screen
  /** in the order in which they changed last */
  readonly #transfers = new Map<string, TransferBody>()
  #timer: NodeJS.Timeout | undefined

  constructor(screen: Screen) {
    this.#screen = screen
  }

  show(transfer: TransferBody): void {
    this.#transfers.delete(transfer.transfer)
    this.#transfers.set(transfer.transfer, transfer)
    this.#timer ??= setTimeout(() => this.#draw(), DRAW_MS)
  }

  stop(): void {
    if (this.#timer) this.#draw()
  }

  #draw(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const all = [...this.#transfers.values()].reverse()
    const ended = all.filter(({ state }) => isEndState(state))
    for (const { transfer } of ended.splice(MAX_ENDED)) this.#transfers.delete(transfer)
    const underWay = all
      .filter(({ state }) => !isEndState(state))
      .sort((a, b) => Number(b.transfer) - Number(a.transfer))
    const rows = [...underWay, ...ended]
    // One line is the title's, one tells what did not fit.
    const room = rows.length < this.#screen.rows ? rows.length : this.#screen.rows - 2
    const shown = rows.slice(0, Math.max(1, room)).map(rowOf)
    const hidden = rows.length - shown.length
    this.#screen.draw(COLUMNS, hidden > 0 ? [...shown, ['', `… and ${hidden} more`]] : shown)
  }
}

function gone(agent: PeerClient, cause?: unknown): NetworkError {
  return new NetworkError(
    'unavailable',
    `the agent at ${agent.url} went away: its transfers go on once it runs again`,
    {},
    cause,
  )
}
