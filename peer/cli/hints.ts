/** Commands, as hints name them, that ask the agent. */
const ASKS_AGENT =
  'status|list|network|search|locate|download|upload|send|mailbox|transfers|limits|friends|add-peer|remove-peer|discover|refresh|ring|events|follow|unfollow|following|publish'
/** In quotes within a sentence, or alone in an indented line. What `--help` says is the same for every agent. */
const HINT = new RegExp(`(^ +|")peer (?=(?:${ASKS_AGENT})[ "])(?![^"]*--help)`, 'g')

/** Which agent the user has named by options; undefined: by none. */
export interface NamedAgent {
  /** its URL */
  readonly agent?: string | undefined
  readonly token?: string | undefined
}

/**
 * The text with these options in every command that it names, so that a hint goes to the same agent when it is pasted:
 * `"peer --agent http://127.0.0.1:8001 transfers resume 3"`. The token itself is not shown.
 */
export function pasteable(text: string, { agent, token }: NamedAgent): string {
  const options = `${agent === undefined ? '' : `--agent ${agent} `}${token === undefined ? '' : '--token TOKEN '}`
  return options === '' ? text : text.replace(HINT, (_hint, before: string) => `${before}peer ${options}`)
}
