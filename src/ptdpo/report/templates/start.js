
startTables();
startCharts();
startViewer();
