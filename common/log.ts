import pino from 'pino'

export type Logger = pino.Logger

export const LOG_LEVELS = ['silent', 'error', 'warn', 'info', 'debug', 'trace'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** One JSON line an event on stderr, fields first: JSON escapes control characters, so no name can forge a line. */
export function createLogger(name: string, level: LogLevel): Logger {
  return pino(
    { name, level, base: { name }, redact: ['token', '*.token', 'headers.authorization'] },
    pino.destination({ dest: 2, sync: true }),
  )
}

export const silentLog: Logger = pino({ level: 'silent' })
