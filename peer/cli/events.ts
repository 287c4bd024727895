import { type Command, InvalidArgumentError } from 'commander'
import { backoff } from '../../common/backoff.ts'
import { systemClock } from '../../common/clock.ts'
import { asNetworkError } from '../../common/errors.ts'
import { parseEventTypes } from '../../common/events/event.ts'
import type { WatchedEvent, WatchOptions } from '../../common/events/watch.ts'
import type { Cli } from './cli.ts'
import { lineOf } from './events-text.ts'
import { count } from './text.ts'

/** Between attempts to reach who went away. */
const RETRY_MS = { first: 250, longest: 3000 }
const MOST = 100_000

interface Options {
  follow?: boolean
  type?: string
  last: number
  maestro?: string
}

/** Whose events are watched. */
interface Source {
  /** for people: `the agent at http://…` */
  readonly name: string
  watch(options: WatchOptions): AsyncIterable<WatchedEvent>
}

export function define(command: Command, cli: Cli): void {
  command
    .option('--follow', 'stay, and show what happens until Ctrl-C')
    .option('--type <types>', 'only these, such as file.added,peer.*', checkedTypes)
    .option('--last <n>', 'begin with so many of the past; of these, those of the --type', parseCount, 20)
    .option('--maestro <url>', 'those that a Maestro has heard of, not the agent')
    .addHelpText(
      'after',
      `
With --json and --follow each event is a line of its own, as it happens.

Examples:
  peer events
  peer events --follow --type 'file.*,peer.*'
  peer events --maestro http://192.168.1.10:9000 --last 100
  peer events --follow --last 0 --json | jq -r 'select(.type == "file.added").data.name'`,
    )
    .action(async ({ follow = false, type, last, maestro }: Options) => {
      const source = maestro === undefined ? await agentOf(cli) : await maestroAt(maestro, cli)
      const odd = new Oddities(cli)
      const options: WatchOptions = { types: type, last, follow, ...odd.listeners }
      if (follow) return stay(source, options, cli)
      const events = []
      const now = new Date()
      for await (const { event } of source.watch(options)) {
        events.push(event)
        cli.out.line(...lineOf(event, now))
      }
      cli.out.document({ events, skipped: odd.skipped })
      if (last === 0) cli.out.note('--last 0 shows none of the past: with --follow, what happens from now on')
      else if (events.length === 0)
        cli.out.note(`${source.name} has heard of nothing${type === undefined ? '' : ` of the type ${type}`}`)
    })
}

async function agentOf(cli: Cli): Promise<Source> {
  const agent = await cli.agent()
  return { name: `the agent at ${agent.url}`, watch: (options) => agent.events(options) }
}

async function maestroAt(url: string, cli: Cli): Promise<Source> {
  const maestro = await cli.maestro(url)
  return { name: `the Maestro at ${maestro.url}`, watch: (options) => maestro.events(options, cli.io.signal) }
}

/** Shows what happens until Ctrl-C, which is the way to end it and no failure. */
async function stay(source: Source, options: WatchOptions, cli: Cli): Promise<void> {
  for await (const { event } of withoutEnd(source, options, cli)) {
    cli.out.documentLine(event)
    cli.out.line(...lineOf(event, new Date()))
  }
}

/** Once it has answered, a source that goes away is waited for, and nothing is missed meanwhile. */
async function* withoutEnd(source: Source, options: WatchOptions, cli: Cli): AsyncGenerator<WatchedEvent> {
  const { signal } = cli.io
  let lastEventId: string | undefined
  let state: 'new' | 'there' | 'away' = 'new'
  let failures = 0
  const onOpen = () => {
    if (state === 'away') cli.out.note(`${source.name} is back`)
    state = 'there'
    failures = 0
  }
  while (!signal.aborted) {
    try {
      for await (const watched of source.watch({ ...options, lastEventId, onOpen })) {
        lastEventId = watched.id || undefined
        yield watched
      }
    } catch (error) {
      if (signal.aborted) return
      const { code } = asNetworkError(error)
      if (state === 'new' || (code !== 'unavailable' && code !== 'limited')) throw error
    }
    if (signal.aborted) return
    if (state !== 'away') cli.out.note({ style: 'yellow', text: `${source.name} went away: waiting for it` })
    state = 'away'
    await systemClock.sleep(backoff(RETRY_MS, failures++), signal)
  }
}

/** Tells of what is missing among the events. */
class Oddities {
  skipped = 0
  readonly listeners: Required<Pick<WatchOptions, 'onGap' | 'onSkipped'>>

  constructor(cli: Cli) {
    this.listeners = {
      onGap: (lost) => {
        const what = lost === null ? 'events may have passed' : `${count(lost, 'event')} passed`
        cli.out.note({ style: 'yellow', text: `${what} unheard of: they are kept no longer` })
      },
      onSkipped: () => {
        if (this.skipped++ === 0)
          cli.out.note({ style: 'yellow', text: 'events that this program does not know are left out: is it old?' })
      },
    }
  }
}

function checkedTypes(text: string): string {
  parseEventTypes(text)
  return text
}

function parseCount(text: string): number {
  if (/^\d{1,6}$/.test(text) && Number(text) <= MOST) return Number(text)
  throw new InvalidArgumentError(`it must be a whole number up to ${MOST.toLocaleString('en-US')}`)
}
