// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
)

// NewLogger writes to standard error: level is debug, info, warn or error;
// format is text, for people, or json.
func NewLogger(level, format string) (*zap.Logger, error) {
	lvl, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, Usage("log-level %q: want debug, info, warn or error", level)
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.TimeEncoderOfLayout(time.RFC3339)
	enc.EncodeDuration = zapcore.StringDurationEncoder
	enc.CallerKey = zapcore.OmitKey
	var encoder zapcore.Encoder
	switch format {
	case "json":
		encoder = zapcore.NewJSONEncoder(enc)
	case "text":
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		enc.ConsoleSeparator = "  "
		encoder = zapcore.NewConsoleEncoder(enc)
	default:
		return nil, Usage("log-format %q: want text or json", format)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), lvl)), nil
}

// TakeLibraryLogs makes libraries that write to the standard logger or to klog
// speak through log, at debug level: their lines are for developers. It changes
// the process; only main calls it.
func TakeLibraryLogs(log *zap.Logger) error {
	std, err := zap.NewStdLogAt(log.Named("library"), zap.DebugLevel)
	if err != nil {
		return err
	}
	zap.RedirectStdLog(log.Named("library"))
	klog.LogToStderr(false)
	klog.SetOutput(std.Writer())
	return nil
}

// Version is the build's version, set by the linker with
// -X github.com/drover-io/drover/shared/daemon.version=...
func Version() string { return version }

var version = "v0.0.0-dev"

// VersionLine is what the version commands print.
func VersionLine(name string) string { return fmt.Sprintf("%s %s", name, version) }
