<?php
// MediaWiki's own store classes without a wiki: an autoloader for Debian's mediawiki-classes, and the few foreign
// classes they need (PSR-3's logger, a wait loop), which that package leaves out.

declare( strict_types=1 );

namespace Psr\Log {
	interface LoggerInterface {
	}
	interface LoggerAwareInterface {
		public function setLogger( LoggerInterface $logger );
	}
	class NullLogger implements LoggerInterface {
		public function __call( $level, $arguments ) {
		}
	}
}

namespace Wikimedia {
	/** Calls a condition until it is reached, it aborts, or the time is over; as the library of that name. */
	class WaitConditionLoop {
		public const CONDITION_REACHED = 1;
		public const CONDITION_CONTINUE = 0;
		public const CONDITION_FAILED = -1;
		public const CONDITION_TIMED_OUT = -2;
		public const CONDITION_ABORTED = -3;

		/** @var callable */
		private $condition;
		private float $timeoutS;

		public function __construct( callable $condition, $timeoutS = 5.0 ) {
			$this->condition = $condition;
			$this->timeoutS = (float)$timeoutS;
		}

		public function invoke() {
			$end = microtime( true ) + $this->timeoutS;
			while ( true ) {
				$result = ( $this->condition )();
				if ( $result === self::CONDITION_REACHED || $result === self::CONDITION_ABORTED ) {
					return $result;
				}
				if ( microtime( true ) >= $end ) {
					return self::CONDITION_TIMED_OUT;
				}
				usleep( 10000 );
			}
		}
	}
}

namespace Decant {
	/** Keeps what MediaWiki logs at info and above; its debug lines tell of every request and would drown the rest. */
	class Journal implements \Psr\Log\LoggerInterface {
		/** @var string[] */
		public array $lines = [];

		public function __call( $level, $arguments ) {
			if ( $level === 'debug' ) {
				return;
			}
			[ $message, $context ] = $arguments + [ '', [] ];
			$words = [];
			foreach ( $context as $name => $word ) {
				$words['{' . $name . '}'] = $word instanceof \Throwable ? $word->getMessage() : (string)$word;
			}
			$this->lines[] = "$level: " . strtr( $message, $words );
		}

		/** @return string[] the lines since the last call */
		public function take(): array {
			$lines = $this->lines;
			$this->lines = [];
			return $lines;
		}
	}

	/** MediaWiki counts operations here; nobody reads the counters. */
	class NoStats {
		public function __call( $name, $arguments ) {
		}
	}

	$includes = getenv( 'MEDIAWIKI_INCLUDES' ) ?: '/usr/share/mediawiki/includes';
	if ( !is_file( "$includes/libs/objectcache/RESTBagOStuff.php" ) ) {
		fwrite( STDERR, "MediaWiki's classes are not in $includes: run deploy/test.sh, which installs mediawiki-classes\n" );
		exit( 2 );
	}
	spl_autoload_register( static function ( string $class ) use ( $includes ) {
		$file = substr( strrchr( "\\$class", '\\' ), 1 ) . '.php';
		foreach ( [ 'objectcache', 'objectcache/utils', 'objectcache/serialized', 'redis', 'http', '.' ] as $folder ) {
			if ( is_file( "$includes/libs/$folder/$file" ) ) {
				require_once "$includes/libs/$folder/$file";
				return;
			}
		}
	} );
}
